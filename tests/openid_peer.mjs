// `openid-client` of npm at a server of OpenID Connect: `node openid_peer.mjs FILE`. The file names the `issuer`, and `operated`,
// a client with a secret that its operator has made. It prints `visit URL` where its user has to go, who comes back to this
// machine, and at the end `report JSON`.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import * as oauth from "openid-client";

const { issuer, operated } = JSON.parse(readFileSync(process.argv[2], "utf8"));

const listener = createServer((request, response) => {
  response.end("You may close this page.");
  arrived(new URL(request.url, back));
}).listen(0, "127.0.0.1");
await once(listener, "listening");
const back = new URL(`http://127.0.0.1:${listener.address().port}/callback`);
const over = new URL("/over", back);

let arrived = () => {};

function visit(url) {
  const coming = new Promise((resolve) => (arrived = resolve));
  console.log(`visit ${url}`);
  return coming;
}

const insecure = { execute: [oauth.allowInsecureRequests] };
const device = "urn:ietf:params:oauth:grant-type:device_code";
const registered = await oauth.dynamicClientRegistration(
  new URL(issuer),
  {
    client_name: "Peer",
    redirect_uris: [back.href],
    post_logout_redirect_uris: [over.href],
    grant_types: ["authorization_code", "refresh_token", device],
    token_endpoint_auth_method: "none",
  },
  oauth.None(),
  insecure,
);
const said = registered.clientMetadata();

// By a code.
const verifier = oauth.randomPKCECodeVerifier();
const [state, nonce] = [oauth.randomState(), oauth.randomNonce()];
const asked = {
  redirect_uri: back.href,
  scope: "openid email profile notes",
  resource: `${issuer}/api`,
  state,
  nonce,
  max_age: "3600",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
};
const answer = await visit(oauth.buildAuthorizationUrl(registered, asked));
const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, maxAge: 3600, idTokenExpected: true };
const first = await oauth.authorizationCodeGrant(registered, answer, checks);
const claims = first.claims();
const userinfo = await oauth.fetchUserInfo(registered, first.access_token, claims.sub);
const next = await oauth.refreshTokenGrant(registered, first.refresh_token);
const notes = await oauth.fetchProtectedResource(registered, next.access_token, new URL(`${issuer}/api/notes`), "GET");

// On a device.
const begun = await oauth.initiateDeviceAuthorization(registered, { scope: "openid notes" });
console.log(`type ${begun.user_code} ${begun.verification_uri} ${begun.verification_uri_complete}`);
const onDevice = await oauth.pollDeviceAuthorizationGrant(registered, begun, undefined, { signal: AbortSignal.timeout(40_000) });

// For itself, and as a service that is asked with a token.
const shown = oauth.ClientSecretBasic(operated.client_secret);
const own = await oauth.discovery(new URL(issuer), operated.client_id, undefined, shown, insecure);
const service = await oauth.clientCredentialsGrant(own, { scope: "notes", resource: "https://billing.example" });
const keys = createRemoteJWKSet(new URL(own.serverMetadata().jwks_uri));
const { payload, protectedHeader } = await jwtVerify(service.access_token, keys, {
  issuer,
  audience: "https://billing.example",
  typ: "at+jwt",
});
const [live, dead] = [await oauth.tokenIntrospection(own, next.access_token), await oauth.tokenIntrospection(own, "oat_none")];

// Signed out.
const left = await visit(
  oauth.buildEndSessionUrl(registered, {
    id_token_hint: first.id_token,
    post_logout_redirect_uri: over.href,
    state: "s1",
  }),
);
console.log(
  `report ${JSON.stringify({
    registered: Object.keys(said).sort(),
    claims,
    userinfo,
    notes: await notes.json(),
    onDevice: onDevice.claims(),
    service: { ...payload, alg: protectedHeader.alg },
    live,
    dead,
    left: left.pathname + left.search,
  })}`,
);
process.exit(0);

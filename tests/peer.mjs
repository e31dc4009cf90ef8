// Two providers of OpenID Connect by `oidc-provider` of npm: `node peer.mjs FILE`. One says what it knows of a user at its
// `userinfo_endpoint`, the other in the token. The file has their issuers and clients; `PUT /users/{sub}` makes a user.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const { userinfo, token, clients } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const users = new Map();

const keyOf = (...kind) => generateKeyPairSync(...kind).privateKey.export({ format: "jwk" });
const keys = [
  { ...keyOf("rsa", { modulusLength: 2048 }), use: "sig" },
  { ...keyOf("ed25519"), use: "sig" },
];
const signing = ["RS256", "PS256", "EdDSA", "Ed25519"];

function serve(issuer, conformIdTokenClaims, clientAuthMethods) {
  const provider = new Provider(issuer, {
    clients: clients.filter((client) => clientAuthMethods.includes(client.token_endpoint_auth_method)),
    clientAuthMethods,
    conformIdTokenClaims,
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    cookies: { keys: [`keys of ${issuer}`] },
    enabledJWA: { idTokenSigningAlgValues: signing },
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ ...users.get(sub), sub }) }),
    jwks: { keys },
    pkce: { required: () => true },
  });
  const answer = provider.callback();
  createServer(async (request, response) => {
    if (request.method !== "PUT") return answer(request, response);
    const sub = decodeURIComponent(request.url.split("/")[2]);
    users.set(sub, await new Response(request).json());
    return response.writeHead(204).end();
  }).listen(new URL(issuer).port, "127.0.0.1");
}

serve(userinfo, true, ["client_secret_basic", "none"]);
serve(token, false, ["client_secret_post"]);

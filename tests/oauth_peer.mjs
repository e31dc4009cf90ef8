// OAuth clients of npm at an MCP server: `node oauth_peer.mjs FILE`. The file names the `peer`, the `server`, and who the
// peer is there: the address of a document, or a `client_id`, with a `client_secret` unless it is public. It prints `visit URL`
// where its user has to go, who comes back to this machine, and at the end `report JSON`.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const { peer, server, document, client_id, client_secret } = JSON.parse(readFileSync(process.argv[2], "utf8"));

const listener = createServer((request, response) => {
  response.end("You may close this page.");
  if (request.url.startsWith("/callback?")) arrived(new URL(request.url, back));
}).listen(0, "127.0.0.1");
await once(listener, "listening");
const back = new URL(`http://127.0.0.1:${listener.address().port}/callback`);

let visits = 0;
let arrived = () => {};
let coming;

function visit(url) {
  visits += 1;
  coming = new Promise((resolve) => (arrived = resolve));
  console.log(`visit ${url}`);
}

function report(said) {
  console.log(`report ${JSON.stringify({ ...said, visits })}`);
  process.exit(0);
}

async function rejected(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was refused");
}

const method = client_secret ? "client_secret_basic" : "none";

async function metadata() {
  return (await fetch(new URL("/.well-known/oauth-authorization-server", server))).json();
}

// The SDKs of MCP, which have no call to revoke a token.
async function ofMcp({ Client, StreamableHTTPClientTransport, UnauthorizedError, finish }) {
  let tokens, verifier, expected;
  const issuer = new URL(server).origin;
  const registered = client_id && { client_id, client_secret, token_endpoint_auth_method: method, issuer };
  const provider = {
    redirectUrl: back.href,
    clientMetadataUrl: document,
    clientMetadata: { client_name: peer, redirect_uris: [back.href], token_endpoint_auth_method: method },
    known: registered,
    clientInformation: () => provider.known,
    saveClientInformation: (information) => (provider.known = information),
    state: () => (expected = crypto.randomUUID()),
    tokens: () => tokens,
    saveTokens: (given) => (tokens = given),
    redirectToAuthorization: visit,
    saveCodeVerifier: (made) => (verifier = made),
    codeVerifier: () => verifier,
    saveDiscoveryState: (found) => (provider.found = found),
    discoveryState: () => provider.found,
    invalidateCredentials: (scope) => {
      if (scope === "all" || scope === "tokens") tokens = undefined;
    },
  };

  async function connected() {
    const transport = new StreamableHTTPClientTransport(new URL(server), { authProvider: provider });
    const client = new Client({ name: peer, version: "1.0" });
    await client.connect(transport);
    return { client, transport };
  }

  async function connect() {
    const transport = new StreamableHTTPClientTransport(new URL(server), { authProvider: provider });
    const client = new Client({ name: peer, version: "1.0" });
    const error = await rejected(() => client.connect(transport));
    if (!(error instanceof UnauthorizedError)) throw error;
    const answer = (await coming).searchParams;
    if (answer.get("state") !== expected) throw new Error("another state");
    await finish(transport, answer);
    return connected();
  }

  const call = async (client, name, args = {}) => {
    const result = await client.callTool({ name, arguments: args });
    return result.content.map(({ text }) => text).join();
  };

  async function revoke(token) {
    const form = new URLSearchParams({ token, client_id: provider.known.client_id });
    if (client_secret) form.set("client_secret", client_secret);
    const answer = await fetch((await metadata()).revocation_endpoint, { method: "POST", body: form });
    if (!answer.ok) throw new Error(await answer.text());
  }

  let { client } = await connect();
  const first = tokens;
  await call(client, "add_note", { text: `by ${peer}` });
  await revoke(tokens.access_token);
  // It gets a 401, and new tokens by itself.
  const notes = await call(client, "notes");
  const refreshed = tokens.access_token !== first.access_token && tokens.refresh_token !== first.refresh_token;
  await revoke(tokens.refresh_token);
  const ended = await rejected(() => call(client, "notes"));
  if (!(ended instanceof UnauthorizedError)) throw ended;
  report({ notes, refreshed, scope: first.scope, client_id: provider.known.client_id });
}

const peers = {
  "@modelcontextprotocol/sdk": async () => {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { UnauthorizedError } = await import("@modelcontextprotocol/sdk/client/auth.js");
    const finish = (transport, answer) => transport.finishAuth(answer.get("code"));
    await ofMcp({ Client, StreamableHTTPClientTransport, UnauthorizedError, finish });
  },

  "@modelcontextprotocol/client": async () => {
    const library = await import("@modelcontextprotocol/client");
    await ofMcp({ ...library, finish: (transport, answer) => transport.finishAuth(answer) });
  },

  "openid-client": async () => {
    const oauth = await import("openid-client");
    const shown = client_secret ? oauth.ClientSecretBasic(client_secret) : oauth.None();
    const options = { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] };
    const issuer = new URL(new URL(server).origin);
    const config = await oauth.discovery(issuer, document ?? client_id, undefined, shown, options);
    const verifier = oauth.randomPKCECodeVerifier();
    const expectedState = oauth.randomState();
    const asked = {
      redirect_uri: back.href,
      scope: "notes",
      resource: server,
      state: expectedState,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
    };
    visit(oauth.buildAuthorizationUrl(config, asked));
    const checks = { pkceCodeVerifier: verifier, expectedState };
    const first = await oauth.authorizationCodeGrant(config, await coming, checks, { resource: server });
    const params = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: peer, version: "1.0" } };
    const begin = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params });
    const headers = new Headers({ "content-type": "application/json", accept: "application/json, text/event-stream" });
    const use = (token) => oauth.fetchProtectedResource(config, token, new URL(server), "POST", begin, headers);
    await use(first.access_token);
    const next = await oauth.refreshTokenGrant(config, first.refresh_token, { resource: server });
    const refreshed = next.access_token !== first.access_token && next.refresh_token !== first.refresh_token;
    await use(next.access_token);
    await oauth.tokenRevocation(config, next.access_token);
    const ended = await rejected(() => use(next.access_token));
    if (ended.status !== 401) throw ended;
    await oauth.tokenRevocation(config, next.refresh_token);
    const over = await rejected(() => oauth.refreshTokenGrant(config, next.refresh_token));
    if (over.error !== "invalid_grant") throw over;
    report({ refreshed, scope: first.scope, client_id: config.clientMetadata().client_id });
  },
};

await peers[peer]();

// Signs in by the client that openapi-fetch makes of the types: `node client.js BASE EMAIL PASSWORD`.
import createClient from "openapi-fetch";
import type { operations, paths } from "./schema.js";

declare const process: { argv: string[] };

const [, , baseUrl, email = "", password = ""] = process.argv;
const client = createClient<paths>({ baseUrl });

const stranger = await client.GET("/hello");
if (stranger.error?.code !== "not_authenticated") throw new Error(`${stranger.response.status} for a stranger`);

// @ts-expect-error: a login has no such field
const misspelt = await client.POST("/auth/login", { body: { mail: email, password } });
if (misspelt.response.status !== 422) throw new Error(`${misspelt.response.status} for a misspelt field`);

const login = await client.POST("/auth/login", { body: { email, password } });
if (login.error) throw new Error(login.error.code);
if (!("access_token" in login.data)) throw new Error("the tokens are in cookies");

type Me = operations["auth_me"]["responses"][200]["content"]["application/json"];
const headers = { Authorization: `Bearer ${login.data.access_token}` };
const me: Me | undefined = (await client.GET("/auth/me", { headers })).data;
const hello = await client.GET("/hello", { headers });
console.log(JSON.stringify({ email: me?.email, verified: me?.is_verified, hello: hello.data }));

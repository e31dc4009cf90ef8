/** The way to the API, for the app's own routes and those of the accounts alike. */

/** Where the API is: empty on the same origin, or such as https://api.example.com. */
const BASE = document.querySelector('meta[name="api"]').content;
/** After these, cookies may be there again: another request or tab has just renewed them. */
const RENEWABLE = new Set(["invalid_token", "refresh_raced"]);
const PAUSE = 250; // ms until the cookies that another tab got are there

/** An answer that is not a success: `code` is stable, `detail` a sentence, or a list for `validation_error`. */
export class Refusal extends Error {
  constructor(status, {code = "unknown", detail = ""} = {}, retryAfter = null) {
    super(code);
    Object.assign(this, {status, code, detail, retryAfter});
  }
}

async function send(method, path, body) {
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method,
      credentials: "include",
      headers: {"Content-Type": "application/json"},
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, {code: "offline"});
  }
  const content = await answer.json().catch(() => undefined);
  if (!answer.ok) throw new Refusal(answer.status, content, answer.headers.get("Retry-After"));
  return content;
}

let renewal = null;

/** Renews the session: one request, however many wait for it. */
function renew() {
  renewal ??= send("POST", "/auth/refresh")
    .catch(async (refusal) => {
      if (refusal.code !== "refresh_raced") throw refusal;
      await new Promise((resume) => setTimeout(resume, PAUSE));
    })
    .finally(() => { renewal = null; });
  return renewal;
}

/** Sends a request, and once more where the session had to be renewed. Throws a `Refusal`. */
export async function api(method, path, body) {
  try {
    return await send(method, path, body);
  } catch (refusal) {
    if (!RENEWABLE.has(refusal.code)) throw refusal;
    await renew();
    return send(method, path, body);
  }
}

import {api, Refusal} from "./api.js";

/** What people read instead of the API's sentence. */
const WORDS = {
  invalid_credentials: "The address, password or code is wrong.",
  email_not_verified: "Open the link in the mail that we sent you, then sign in.",
  two_factor_required: "Enter the code of your authenticator app, or a recovery code.",
  email_taken: "There is an account with this address already. Sign in instead.",
  invalid_code: "The code is wrong. Enter the newest one.",
  reauthentication_required: "Sign out and in again first.",
  csrf_refused: "This page may not do that. Is its origin in AUTH_TRUSTED_ORIGINS?",
  offline: "The server cannot be reached. Try again.",
};
const SIGNED_OUT = new Set(["not_authenticated", "invalid_token"]);

const element = (id) => document.getElementById(id);
const otherTabs = new BroadcastChannel("session");
const time = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "short"});

// What is said

function say(text, kind = "status") {
  element("status").textContent = kind === "status" ? text : "";
  element("alert").textContent = kind === "alert" ? text : "";
}

function sentence(refusal) {
  if (refusal.code === "validation_error") {
    return refusal.detail.map(({loc, msg}) => `${loc.at(-1)}: ${msg}`).join(". ");
  }
  const wait = refusal.retryAfter ? ` Try again in ${refusal.retryAfter} seconds.` : "";
  return (WORDS[refusal.code] ?? (refusal.detail || "Something went wrong. Try again.")) + wait;
}

/** Runs what a button or form is for; meanwhile it cannot be pressed again. */
async function attempt(button, work) {
  button.disabled = true;
  say("");
  try {
    await work();
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    if (SIGNED_OUT.has(refusal.code)) showVisitor("You are signed out. Sign in again.");
    else say(sentence(refusal), "alert");
    if (refusal.code === "two_factor_required") askForCode();
  } finally {
    button.disabled = false;
  }
}

function onSubmit(id, work) {
  element(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    attempt(form.querySelector("button"), () => work(Object.fromEntries(new FormData(form)), form));
  });
}

function onClick(id, work) {
  element(id).addEventListener("click", (event) => attempt(event.target, work));
}

// Which view is shown

function show(view) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== view;
  element(view).querySelector("h1").focus();
}

function showVisitor(text = "") {
  for (const form of document.forms) form.reset();
  element("code-field").hidden = true;
  element("notes").replaceChildren();
  element("sessions").replaceChildren();
  show("visitor");
  say(text);
}

function askForCode() {
  element("code-field").hidden = false;
  element("code").focus();
}

async function showMember() {
  const [user, notes, sessions] = await Promise.all([
    api("GET", "/auth/me"), api("GET", "/api/notes"), api("GET", "/account/sessions"),
  ]);
  greet(user);
  element("display_name").value = user.display_name ?? "";
  element("notes").replaceChildren(...notes.map(item));
  element("sessions").replaceChildren(...sessions.map(sessionItem));
  element("enrolment").hidden = true;
  if (element("member").hidden) show("member");
}

function greet(user) {
  element("greeting").textContent = `Hello ${user.display_name || user.email}!`;
}

function item(text) {
  const entry = document.createElement("li");
  entry.textContent = text;
  return entry;
}

function sessionItem(session) {
  const entry = item(`${session.user_agent || "Unknown device"}, ${time.format(new Date(session.last_used_at))}`);
  if (session.current) {
    entry.append(" (this one)");
    return entry;
  }
  const button = document.createElement("button");
  button.textContent = "Sign out";
  button.setAttribute("aria-label", `Sign out ${session.user_agent}`);
  button.addEventListener("click", () => attempt(button, async () => {
    await api("DELETE", `/account/sessions/${session.id}`);
    entry.remove();
    say("Signed out there.");
  }));
  entry.append(" ", button);
  return entry;
}

// What visitors do

onSubmit("sign-up", async ({email, password}, form) => {
  await api("POST", "/auth/signup", {email, password});
  form.reset();
  say("We have sent you a mail. Open its link, then sign in.");
});

onSubmit("sign-in", async ({email, password, code}) => {
  await api("POST", "/auth/login", {email, password, code: code || null});
  await showMember();
  otherTabs.postMessage("signed in");
});

onSubmit("forgot", async ({email}, form) => {
  await api("POST", "/auth/forgot-password", {email});
  form.reset();
  say("If there is such an account, a mail is on its way.");
});

// What members do

onSubmit("add-note", async ({text}, form) => {
  element("notes").append(item(await api("POST", "/api/notes", {text})));
  form.reset();
});

onSubmit("profile", async ({display_name}) => {
  greet(await api("PATCH", "/account", {display_name: display_name || null}));
  say("Saved.");
});

onClick("set-up", async () => {
  const {otpauth_uri, qr_base64} = await api("POST", "/auth/2fa/enable");
  element("qr").src = `data:image/png;base64,${qr_base64}`;
  element("secret").textContent = new URL(otpauth_uri).searchParams.get("secret");
  element("enrolment").hidden = false;
  element("first-code").focus();
});

onSubmit("enrolment", async ({code}, form) => {
  await api("POST", "/auth/2fa/verify", {code});
  form.reset();
  form.hidden = true;
  say("Two-factor is on.");
});

onClick("end-others", async () => {
  await api("POST", "/account/logout-others");
  await showMember();
  say("All other devices are signed out.");
});

onClick("sign-out", async () => {
  await api("POST", "/auth/logout");
  otherTabs.postMessage("signed out");
  showVisitor("You are signed out.");
});

// What other tabs do, and the start

function start() {
  return showMember().catch((refusal) => {
    if (!(refusal instanceof Refusal)) throw refusal;
    if (element("visitor").hidden) showVisitor();
    if (!SIGNED_OUT.has(refusal.code)) say(sentence(refusal), "alert");
  });
}

otherTabs.addEventListener("message", start);
start();

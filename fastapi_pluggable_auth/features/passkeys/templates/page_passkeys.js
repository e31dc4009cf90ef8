// The passkey goes into a field of its form, which is then posted as any other.
const ask = async form => {
  const answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) })
  if (!answer.ok) throw answer
  return answer.json()
}
const post = (form, credential) => {
  form.querySelector("[data-credential]").value = JSON.stringify(credential)
  form.submit()
}
// What was typed in the form above goes along.
const above = document.querySelector("main form:not([data-passkey])")
const along = form => {
  for (const field of form.querySelectorAll("[data-along]")) field.remove()
  if (!above || !("allBut" in form.dataset)) return
  const left = form.dataset.allBut.split(" ")
  for (const [name, value] of new FormData(above)) {
    if (left.includes(name) || form.elements.namedItem(name)) continue
    const field = Object.assign(document.createElement("input"), { type: "hidden", name, value })
    field.dataset.along = ""
    form.append(field)
  }
}
const say = (form, name) => {
  const lines = [...form.querySelectorAll("[data-said]")], line = lines.find(each => each.dataset.said === name) ?? lines[0]
  for (const each of lines) each.hidden = each !== line || !name || name === "AbortError"
}
// Where the app does not even begin, the form says why. A page that another tab has outlived is opened again.
const refused = async (form, answer) => {
  const { code } = await answer.json().catch(() => ({}))
  if (code === "csrf_refused") location.reload()
  else form.submit()
}
const offer = async form => {
  try {
    const credential = await fill(() => ask(form))
    if (!credential) return
    along(form)
    post(form, credential)
  } catch { /* the button is still there */ }
}
if (supported) {
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false
    form.addEventListener("submit", async event => {
      event.preventDefault()
      along(form)
      say(form)
      try {
        const made = form.dataset.passkey === "create", options = await ask(form)
        post(form, await (made ? create : get)(options))
      } catch (error) {
        if (error instanceof Response) return refused(form, error)
        say(form, error.name)
        if ("autofill" in form.dataset && error.name !== "AbortError") offer(form)
      }
    })
    if ("autofill" in form.dataset) offer(form)
  }
  for (const without of document.querySelectorAll("[data-without-passkeys]")) without.hidden = true
  for (const each of document.querySelectorAll("[data-with-passkeys]")) each.hidden = false
  for (const { dataset } of document.querySelectorAll("[data-unknown]")) tell("UnknownCredential", JSON.parse(dataset.unknown))
  for (const { dataset } of document.querySelectorAll("[data-passkeys]")) {
    const { rpId, userId, name, displayName, allAcceptedCredentialIds } = JSON.parse(dataset.passkeys)
    tell("AllAcceptedCredentials", { rpId, userId, allAcceptedCredentialIds })
    tell("CurrentUserDetails", { rpId, userId, name, displayName })
  }
  // Once a login; again where the user has gone on meanwhile.
  for (const form of document.querySelectorAll("form[data-upgrade]")) (async () => {
    const { login } = form.dataset, key = "passkey-upgrade"
    try {
      if (localStorage[key] === login) return
      const credential = await upgrade(() => ask(form))
      if (!credential) return
      form.querySelector("[data-credential]").value = JSON.stringify(credential)
      await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), keepalive: true })
    } catch { /* there is another login */ }
    try {
      localStorage[key] = login
    } catch { /* nothing is kept here */ }
  })()
}

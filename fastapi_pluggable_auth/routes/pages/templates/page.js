// A page that the browser kept may belong to somebody who has signed out since.
addEventListener("pageshow", event => { if (event.persisted) location.reload() })
const language = document.documentElement.lang
for (const button of document.querySelectorAll("[data-show]")) {
  const field = document.getElementById(button.dataset.show)
  button.hidden = false
  button.onclick = () => {
    const shown = field.type === "text"
    field.type = shown ? "password" : "text"
    button.setAttribute("aria-pressed", String(!shown))
  }
  field.form.addEventListener("submit", () => { field.type = "password" })
}
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break
  button.hidden = false
  button.onclick = async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText)
    document.getElementById(button.dataset.done).hidden = false
  }
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false
  button.onclick = () => print()
}
for (const place of document.querySelectorAll("[data-strength]")) {
  const field = place.parentElement.querySelector("input"), { elements } = field.form, [meter, words] = place.children
  const show = (score, said) => {
    meter.hidden = !said
    meter.value = score + 1
    words.textContent = said
  }
  const ask = async password => {
    const body = JSON.stringify({ password, email: (elements.email ?? elements.username)?.value })
    const headers = { "Content-Type": "application/json", "Accept-Language": language }
    const answer = await fetch(place.dataset.strength, { method: "POST", credentials: "omit", headers, body })
    const { score, said } = answer.ok ? await answer.json() : { score: 0, said: "" }
    if (field.value === password) show(score, said)
  }
  let waiting
  field.addEventListener("input", () => {
    clearTimeout(waiting)
    if (field.value.length < field.minLength) show(0, "")
    else waiting = setTimeout(ask, 400, field.value)
  })
}
for (const field of document.querySelectorAll("[autocomplete=one-time-code]")) {
  field.addEventListener("paste", () => setTimeout(() => {
    if (/^\s*(\d\s*){6}$/.test(field.value) && field.form.checkValidity()) field.form.requestSubmit()
  }))
}
// As it is written where the reader lives, in the language of the page.
const locale = navigator.languages.find(each => each.split("-")[0] === language) ?? language
const ago = new Intl.RelativeTimeFormat(locale, { numeric: "auto" })
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" })
const local = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" })
for (const time of document.querySelectorAll("time")) {
  const then = new Date(time.dateTime), minutes = (then - Date.now()) / 60000, distance = Math.abs(minutes)
  const [unit, size] = distance < 1 ? ["second", Infinity] : distance < 60 ? ["minute", 1] : distance < 1440 ? ["hour", 60] : ["day", 1440]
  time.title = local.format(then)
  time.textContent = distance < 7 * 1440 ? ago.format(Math.round(minutes / size), unit) : "day" in time.dataset ? day.format(then) : time.title
}

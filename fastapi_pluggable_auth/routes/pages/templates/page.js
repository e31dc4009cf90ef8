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
// A page that the browser kept may belong to somebody who has signed out since.
addEventListener("pageshow", event => { if (event.persisted) location.reload() })

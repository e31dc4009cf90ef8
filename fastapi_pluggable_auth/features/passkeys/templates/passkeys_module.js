
// Why the app, or the browser, did nothing: `code` is that of the answer, or the name of the browser's error.
export class PasskeyError extends Error {
  constructor(message, code, status) {
    super(message)
    Object.assign(this, { name: "PasskeyError", code, status })
  }
}

// The routes of one app, by cookies or with what `token` gives.
export class Passkeys {
  static supported = supported
  #base
  #token
  #credentials

  constructor({ base = new URL("../../", import.meta.url).href, token = () => null, credentials = "same-origin" } = {}) {
    this.#base = base.endsWith("/") ? base : `${base}/`
    this.#token = token
    this.#credentials = credentials
  }

  // Signs in with a passkey that the user chooses. What else the body of the login takes goes along.
  async signIn(more = {}) {
    const options = await this.#ask("auth/passkey/options")
    return this.#show("auth/passkey/login", options, await this.#browser(get(options)), more)
  }

  // The same by autofill of a field with `autocomplete="username webauthn"`; null where something else came first.
  async autofill(more = {}) {
    let options
    const ask = async () => options = await this.#ask("auth/passkey/options")
    try {
      const credential = await fill(ask)
      return credential && await this.#show("auth/passkey/login", options, credential, more)
    } catch (error) {
      if (error.name === "AbortError") return null
      throw error
    }
  }

  // After `two_factor_required`: the same body once more, with a passkey in place of a code.
  async secondFactor({ options: { passkey } }, body, path = "auth/login") {
    return this.#show(path, passkey, await this.#browser(get(passkey)), body, "passkey")
  }

  // Signs up with a passkey in place of a password.
  async signUp(account) {
    const options = await this.#ask("auth/passkey/sign-up/options", { email: account.email })
    const credential = await this.#browser(create(options))
    try {
      return await this.#ask("auth/signup", { ...account, credential })
    } catch (error) {
      await tell("UnknownCredential", { rpId: options.rp.id, credentialId: credential.id })
      throw error
    }
  }

  // Verifies the address of a mailed link, for who signed up with a passkey in another browser.
  async verify(token) {
    const options = await this.#ask("auth/passkey/verify/options", { token })
    return this.#show("auth/passkey/verify", options, await this.#browser(get(options)), { token })
  }

  // Makes the login recent again.
  async reauthenticate() {
    const options = await this.#ask("auth/passkey/reauthenticate/options")
    return this.#show("auth/passkey/reauthenticate", options, await this.#browser(get(options)))
  }

  // Adds a passkey, or with `secondFactor` one that is only for beside a password.
  async add({ name = null, secondFactor = false } = {}) {
    const options = await this.#ask("account/passkeys/options", { second_factor: secondFactor })
    const credential = await this.#browser(create(options))
    return this.#ask("account/passkeys", { name, credential })
  }

  // Right after a login with a password: has the browser make one by itself; null where it does not.
  async upgrade() {
    try {
      const credential = await upgrade(() => this.#ask("account/passkeys/options", { upgrade: true }))
      return credential && await this.#ask("account/passkeys", { credential })
    } catch (error) {
      if (error instanceof PasskeyError) throw error
      return null
    }
  }

  list() {
    return this.#ask("account/passkeys", undefined, "GET")
  }

  // Gives it another `name`, or with `keep` lets one that is held sign in again.
  change(id, changes) {
    return this.#ask(`account/passkeys/${id}`, changes, "PATCH")
  }

  // Removes it, here and from what keeps it.
  async remove(id) {
    await this.#ask(`account/passkeys/${id}`, undefined, "DELETE")
    await this.tellBrowser()
  }

  // Says which passkeys are left, and how the account is called now. Needs a recent login.
  async tellBrowser() {
    const { rp, user, excludeCredentials } = await this.#ask("account/passkeys/options", {})
    const { id: userId, name, displayName } = user, rpId = rp.id
    await tell("AllAcceptedCredentials", { rpId, userId, allAcceptedCredentialIds: excludeCredentials.map(({ id }) => id) })
    await tell("CurrentUserDetails", { rpId, userId, name, displayName })
  }

  async #show(path, options, credential, more = {}, field = "credential") {
    try {
      return await this.#ask(path, { ...more, [field]: credential })
    } catch (error) {
      if (error.code === "passkey_unknown") await tell("UnknownCredential", { rpId: options.rpId, credentialId: credential.id })
      throw error
    }
  }

  async #browser(answer) {
    try {
      return await answer
    } catch (error) {
      throw new PasskeyError(error.message, error.name)
    }
  }

  async #ask(path, body, method = "POST") {
    const token = await this.#token(), headers = { "Content-Type": "application/json" }
    if (token) headers.Authorization = `Bearer ${token}`
    const sent = { method, headers, credentials: this.#credentials, body: body && JSON.stringify(body) }
    const answer = await fetch(new URL(path, new URL(this.#base, location.href)), sent)
    const said = answer.status === 204 ? null : await answer.json()
    if (!answer.ok) throw new PasskeyError(typeof said.detail === "string" ? said.detail : "", said.code, answer.status)
    return said
  }
}

// Passkeys in browsers (WebAuthn Level 3): bytes are in base64url, as options and answers have them in JSON.
// Not by parseCreationOptionsFromJSON() and toJSON(), which older browsers lack, and some password managers.
const supported = "PublicKeyCredential" in globalThis
const decode = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), sign => sign.charCodeAt(0))
const encode = bytes => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "")
const named = credentials => credentials.map(each => ({ ...each, id: decode(each.id) }))

// At most one asks at a time: each ends what waited before, as autofill does.
let waiting = new AbortController()
const next = () => {
  waiting.abort()
  waiting = new AbortController()
  return waiting.signal
}

// Makes a passkey.
const create = async (options, mediation, signal = next()) => {
  const publicKey = {
    ...options,
    challenge: decode(options.challenge),
    user: { ...options.user, id: decode(options.user.id) },
    excludeCredentials: named(options.excludeCredentials),
  }
  const made = await navigator.credentials.create({ publicKey, mediation, signal })
  const { id, type, response } = made, { credProps } = made.getClientExtensionResults()
  return {
    id,
    type,
    clientExtensionResults: credProps ? { credProps } : {},
    response: {
      clientDataJSON: encode(response.clientDataJSON),
      attestationObject: encode(response.attestationObject),
      transports: response.getTransports?.() ?? [],
    },
  }
}

// Shows a passkey.
const get = async (options, mediation, signal = next()) => {
  const publicKey = { ...options, challenge: decode(options.challenge), allowCredentials: named(options.allowCredentials) }
  const { id, type, response } = await navigator.credentials.get({ publicKey, mediation, signal })
  return {
    id,
    type,
    response: {
      clientDataJSON: encode(response.clientDataJSON),
      authenticatorData: encode(response.authenticatorData),
      signature: encode(response.signature),
      userHandle: response.userHandle && encode(response.userHandle),
    },
  }
}

// Offers passkeys where the browser fills in the name, until one is chosen or something else asks; null where
// it cannot. Options are asked for again before they are too old.
const fill = async ask => {
  if (!supported || !await PublicKeyCredential.isConditionalMediationAvailable?.()) return null
  const ended = next()
  while (!ended.aborted) {
    const options = await ask()
    const again = AbortSignal.timeout(options.timeout * .8)
    try {
      return await get(options, "conditional", AbortSignal.any([ended, again]))
    } catch (error) {
      if (ended.aborted || !again.aborted) throw error
    }
    if (document.hidden) await new Promise(done => document.addEventListener("visibilitychange", done, { once: true }))
  }
  return null
}

// Has the browser make a passkey by itself, right after a login with a password, unless something else asks; null
// where it cannot.
const upgrade = async ask => {
  const ended = next()
  if (!supported || !(await PublicKeyCredential.getClientCapabilities?.())?.conditionalCreate) return null
  return create(await ask(), "conditional", AbortSignal.any([ended, AbortSignal.timeout(20000)]))
}

// Says to what keeps passkeys what became of them: "UnknownCredential", "AllAcceptedCredentials",
// "CurrentUserDetails".
const tell = async (what, details) => {
  try {
    await globalThis.PublicKeyCredential?.[`signal${what}`]?.(details)
  } catch { /* of no consequence here */ }
}

// Who looks: the token, kept for this tab; and the nicknames, kept in this browser. Neither is sent
// anywhere but to the API that this page came from, and nicknames not even there.

const TOKEN = 'rivulet.token';

// A browser that keeps nothing (a setting, or private browsing) makes both throw.
function read(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function write(storage, key, value) {
  try {
    if (value) window[storage].setItem(key, value);
    else window[storage].removeItem(key);
  } catch {
    // It holds until the page is closed.
  }
}

/** `{token, parent}` of a JWT, whose `sub` is the parent; null if it is none. Only the server verifies. */
export function sessionOf(token) {
  try {
    const [, payload] = token.trim().split('.');
    const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === 'string' && sub ? { token: token.trim(), parent: sub } : null;
  } catch {
    return null;
  }
}

/** Takes the token out of the address, where it would be seen, bookmarked and kept in the history. */
export function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get('token');
  if (given != null) {
    fragment.delete('token');
    const rest = fragment.toString();
    history.replaceState(null, '', location.pathname + location.search + (rest ? `#${rest}` : ''));
    keepToken(given);
  }
  return given ?? read('sessionStorage', TOKEN);
}

export const keepToken = (token) => write('sessionStorage', TOKEN, token);

const nicknames = new Map();

export function nickname(child) {
  if (!nicknames.has(child)) nicknames.set(child, read('localStorage', `rivulet.nickname.${child}`));
  return nicknames.get(child);
}

export function keepNickname(child, name) {
  nicknames.set(child, name);
  write('localStorage', `rivulet.nickname.${child}`, name);
}

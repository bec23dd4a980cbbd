// What a person has chosen in this browser. Storage may be forbidden; then choices last as long as the page.

const chosen = new Map();

/** A choice, or the usual one. */
export function setting(name, usual) {
  if (chosen.has(name)) return chosen.get(name);
  try {
    return localStorage.getItem(`gristmill.${name}`) ?? usual;
  } catch {
    return usual;
  }
}

/** Keeps a choice. */
export function choose(name, value) {
  chosen.set(name, value);
  try {
    localStorage.setItem(`gristmill.${name}`, value);
  } catch {
    // It holds until the page is closed.
  }
}

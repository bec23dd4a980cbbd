// Elements without markup in strings: text goes in as text, styles through classes and the CSSOM.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An HTML element. `props` are attributes, except functions, which become listeners (`onclick`), and `value` and
 * `checked`, which are properties. `null` and `false` leave an attribute out. Children are nodes, texts, or lists of
 * these.
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element, in the same way. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets a text if it differs: what hasn't changed isn't drawn again, and isn't read out again. */
export function setText(node, text) {
  const wanted = String(text ?? '');
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute if it differs; `null` and `false` take it away. */
export function setAttr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/** Puts other children in place of those that are there. */
export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

const keyOf = new WeakMap();

/**
 * Makes the children of `parent` follow `items`: nodes of items that stay are updated in place, so that focus, scroll
 * and selection survive. `make(item)` gives a node, `update(node, item)` refreshes it.
 */
export function follow(parent, items, key, make, update) {
  const old = new Map();
  for (const child of parent.children) old.set(keyOf.get(child), child);
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let node = old.get(name);
    if (node === undefined) {
      node = make(item);
      keyOf.set(node, name);
    } else {
      old.delete(name);
    }
    update?.(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

let ids = 0;

/** An id for this page, for labels and descriptions. */
export function freshId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

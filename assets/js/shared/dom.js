// @ts-check
// Building and updating the page's elements. Model text only ever enters the page through textContent.

const present = (values) => values.filter((value) => value !== null && value !== undefined && value !== false);
/**
 * An element with attributes, listeners ("onclick": function), `text` and children. What is null or false is left out.
 * A button submits no form unless its type says so.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  if (node instanceof HTMLButtonElement) node.type = 'button';
  for (const [name, value] of Object.entries(attributes || {})) {
    if (!present([value]).length) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...present(children));
  return node;
}

export function svg(tag, attributes, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A text of less weight. @param {'span' | 'p' | 'small' | 'div'} [tag] */
export const muted = (text, tag = 'span') => el(tag, { class: 'lr-muted', text });
/** A control with its name before it. */
export const labelled = (name, control, attributes = {}) => el('label', { class: 'lr-pick', ...attributes },
  el('span', { text: name }), control);
/** Options of a select. @param {any[][]} choices [value, text] of each */
export const optionsOf = (choices) => choices.map(([value, text]) => el('option', { value, text }));
/** Rows of a definition list. @param {any[][]} facts [name, text or node, what it is] of each */
export const termsOf = (facts, attributes = {}) => facts.map(([name, value, title]) =>
  el('div', { title, ...attributes }, el('dt', { text: name }), el('dd', {}, value)));
/** A link to a place on the page. @param {Record<string, any>} place the tab, and its parameters in the address */
export const linkTo = (place, text, attributes = {}) => el('a', { href: '?' + new URLSearchParams(place), text,
  ...attributes });

// Only a text that differs is written, so that screen readers announce it once and a selection stays.
export function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

// Replaces the content of a place only when its data changed, so that nothing moves under the user's hands. The focus
// stays on the element with the same data-key.
export function replaceIfChanged(place, data, make) {
  const now = JSON.stringify(data);
  if (place.shown === now) return;
  place.shown = now;
  const { activeElement } = document;
  const focused = place.contains(activeElement) ? activeElement.getAttribute('data-key') : null;
  place.replaceChildren(...present(make()));
  if (focused) place.querySelector('[data-key="' + CSS.escape(focused) + '"]')?.focus();
}

// A box for an error's sentence. show() returns its text: nothing where there is no error.
export function createErrorBox() {
  const node = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  return { node, show(text) { node.hidden = !text; setText(node, text || ''); return text; } };
}

export async function copyText(text) {
  // no clipboard without https
  try { await navigator.clipboard.writeText(text); return true; } catch { return false; }
}
/** Saves a text or a Blob as a file. @param {string | Blob} content */
export function download(name, content, type = '') {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  downloadFrom(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
export function downloadFrom(href, name) {
  const link = el('a', { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

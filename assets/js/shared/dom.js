// Building and updating the page's elements. Model text only ever enters the page through textContent.

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'text') node.textContent = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Only a text that differs is written, so that screen readers announce it once and a selection stays.
function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

// Replaces the content of a place only when its data changed, so that nothing moves under the user's hands. The focus
// stays on the element with the same data-key.
function replaceIfChanged(place, data, make) {
  const now = JSON.stringify(data);
  if (place.shown === now) return;
  place.shown = now;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...make());
  if (focused) place.querySelector('[data-key="' + CSS.escape(focused) + '"]')?.focus();
}

// A box for an error's sentence. show() returns its text: nothing where there is no error.
function createErrorBox() {
  const node = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  return { node, show(text) { node.hidden = !text; setText(node, text || ''); return text; } };
}

async function copyText(text) {
  // no clipboard without https
  try { await navigator.clipboard.writeText(text); return true; } catch (e) { return false; }
}
function downloadFrom(href, name) {
  const link = el('a', { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

// @ts-check
// A part of a chart that slides.
import { el } from './dom.js';

// A part that slides: arrows, Page Up and Down, Home and End, and the pointer that its chart hands on.
export function createHandle(label, move) {
  const node = el('div', { class: 'lr-handle', role: 'slider', tabindex: '0', 'aria-label': label });
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in steps)) return;
    event.preventDefault();
    move(steps[event.key]);
  });
  return { node, place(x, values) {
    node.style.left = x + 'px';
    for (const [name, value] of Object.entries(values)) node.setAttribute('aria-' + name, value);
  } };
}

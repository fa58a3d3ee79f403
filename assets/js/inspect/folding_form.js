// @ts-check
// The form of the Inspect tab, folded to one line that says what Run would ask: once a run has begun, and from the
// start where the screen has no room for form and trace side by side.
import { setText } from '../shared/dom.js';
import { joined, lastPart } from '../shared/format.js';

const OWN_PAIR = 'Two models of my own', OWN_TEXT = 'This text is your own';
const root = document.documentElement;

/** @returns {string} the value of a field of the form, or '' */
function valueOf(selector) {
  const field = document.querySelector(selector);
  return field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement ? field.value.trim() : '';
}

function pairOf() {
  const title = valueOf('#lr-pair input');
  if (!title.startsWith(OWN_PAIR)) return title;
  const [expert, amateur] = ['#lr-expert', '#lr-amateur'].map((id) => lastPart(valueOf(id + ' :is(input, textarea)')));
  return expert + ' against ' + amateur;
}
function problemOf() {
  const own = document.getElementById('lr-answer')?.textContent?.includes(OWN_TEXT);
  const number = /^\d[\d,]*/.exec(valueOf('#lr-pick input'));
  if (own || !number) return 'a problem of my own';
  const source = valueOf('#lr-source input');
  const where = source.startsWith('Bundled') ? '' : source.startsWith('Upload') ? 'my file, ' : source + ' ';
  return where + 'problem ' + number[0];
}
function decodingOf() {
  if (valueOf('#lr-mode input:checked').startsWith('Score')) return 'a text of mine, scored';
  const writer = valueOf('#lr-writer input:checked'), temperature = Number(valueOf('#lr-temperature input') || 0);
  const how = temperature > 0 ? 'temperature ' + temperature : 'greedy';
  return writer && writer !== 'Expert' ? 'by ' + writer.toLowerCase() + ' · ' + how : how;
}
/** What the form says, in one line. */
const summary = () => joined([pairOf(), problemOf(), decodingOf()]);

/** The line. set(true) folds the form, set(false) opens it. */
export function createFold() {
  const button = document.getElementById('lr-fold'), isFolded = () => root.classList.contains('lr-folded');
  function draw() {
    if (!button) return;
    setText(button, isFolded() ? summary() : 'Fold the form');
    button.title = isFolded() ? 'Show the form' : '';
    button.setAttribute('aria-expanded', String(!isFolded()));
  }
  function set(folded) {
    root.classList.toggle('lr-folded', folded);
    draw();
  }
  button?.addEventListener('click', () => set(!isFolded()));
  const form = document.getElementById('lr-side');
  // what a link or the server fills in comes without an event of the field's, but with a change in the form
  if (form) new MutationObserver(() => { if (isFolded()) draw(); }).observe(form, { subtree: true, childList: true });
  form?.addEventListener('change', () => { if (isFolded()) draw(); });
  draw();
  return { set };
}

// @ts-check
// The traces that this browser has seen, as a list with a search. It keeps what a line shows; the traces themselves
// stay on the server.
import { el } from '../shared/dom.js';
import { formatTime, joined, lastPart, plural } from '../shared/format.js';
import { tunedName } from './measures.js';
import { judged } from './writer.js';

const KEY = 'lr-traces', MOST = 60, LONGEST = 120;

/** @typedef {{ id: string, time: number, title: string, question: string, result: string }} Seen */

/** @returns {Seen[]} newest first; none where the browser keeps nothing, or something else wrote there */
function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) || '[]');
    return Array.isArray(found) ? found.filter((one) => one && typeof one.id === 'string') : [];
  } catch { return []; }
}
function write(list) {
  try { localStorage.setItem(KEY, JSON.stringify(list)); } catch { /* a private window may refuse */ }
}

/** A run that has ended, as the list keeps it. @returns {Seen} */
export function seenOf({ run, expert, amateur, question, contrast, lens, graded }, tokens) {
  const parts = [lastPart(expert) + ' against ' + lastPart(amateur),
    contrast && (contrast.takeover ? 'takeover' : 'contrast'), lens && tunedName(lens)];
  return { id: run, time: Date.now() / 1000, question: question || '', title: joined(parts),
    result: graded ? judged(graded) : plural(tokens, 'token') };
}

export class History {
  /** @param {(id: string) => string} compare the address of a comparison of the trace that is shown with another */
  constructor(compare) {
    this.compare = compare;
    /** @type {Seen | null} */ this.now = null;
    this.search = el('input', { type: 'search', placeholder: 'Search problems, models, results',
      'aria-label': 'Search the traces', oninput: () => this.draw() });
    this.list = el('ol', { class: 'lr-history-list' });
    this.none = el('p', { class: 'lr-muted', hidden: true });
    this.summary = el('summary');
    this.node = el('details', { class: 'lr lr-history' }, this.summary,
      el('div', { class: 'lr-history-box' }, this.search, this.none, this.list,
        el('button', { text: 'Forget them', title: 'Empties this list; the traces stay',
          onclick: () => { write([]); this.draw(); } })));
    this.node.addEventListener('toggle', () => this.draw());
    this.draw();
  }
  /** A trace that has ended. @param {Seen} seen */
  add(seen) {
    this.now = seen;
    const short = { ...seen, question: seen.question.slice(0, LONGEST), title: seen.title.slice(0, LONGEST) };
    write([short, ...read().filter(({ id }) => id !== seen.id)].slice(0, MOST));
    this.draw();
  }
  /** What is shown now, where it is not to be kept. */
  showing(seen) { this.now = seen; this.draw(); }
  draw() {
    const all = read(), wanted = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((one) => wanted.every((word) => [one.title, one.question, one.result].join(' ')
      .toLowerCase().includes(word)));
    this.summary.textContent = 'History (' + all.length + ')';
    this.node.hidden = !all.length;
    if (!this.node.open) return;
    this.none.hidden = found.length > 0;
    this.none.textContent = 'No trace holds these words.';
    this.list.replaceChildren(...found.map((one) => this.row(one)));
  }
  row(one) {
    const same = this.now && one.id !== this.now.id && one.question === this.now.question.slice(0, LONGEST);
    return el('li', { class: one.id === this.now?.id ? 'lr-history-now' : '' },
      el('a', { href: '?trace=' + one.id, text: one.question || 'A trace' }),
      el('span', { class: 'lr-muted',
        text: joined([one.title, one.result, formatTime(one.time)]) }),
      same ? el('a', { href: this.compare(one.id), text: 'Compare',
        title: 'Side by side with the trace that is shown' }) : '');
  }
}

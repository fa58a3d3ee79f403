// @ts-check
// Two traces of one problem side by side: aligned by what they have in common, with one cursor through both. The engine
// aligns them (lightreasoner/tracing/compare.py).
import { createErrorBox, el } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { clamp, formatSigned, lastPart, plural, tokenLabel, tokenName } from '../shared/format.js';
import { cue, moveSelection, tokenNode } from './heatmap.js';
import { METRICS, isAbove, klText, shade, teachingSignal, tunedName } from './measures.js';
import { StepView } from './step_view.js';
import { TokenCard } from './token_card.js';
import { isTaken } from './viewer.js';
import { gradeSign } from './writer.js';

const NOTABLE = 0.1; // nats; smaller differences of KL are not written under the tokens
const KEYS_HELP = '← → step by step · n / p next or previous difference · Home / End · ↑ ↓ the other trace';
// what the sides are called, and where their tokens are: names of their own, else by where they stand
const NARROW = matchMedia('(max-width: 700px)'); // as in inspect.css: there the left one is above the right one
const WIDE_NAMES = ['Left', 'Right'], NARROW_NAMES = ['Upper', 'Lower'];
const AT = { Left: 'on the left', Right: 'on the right', Upper: 'above', Lower: 'below', Before: 'before',
  After: 'after', 'The parent': 'of the parent', 'The branch': 'of the branch' };

/** How a trace differs from others of the same pair, in a few words. */
function titleOf({ pair: { expert, amateur }, lens, request: { contrast } }) {
  const last = (ref) => ref.split('::').map(lastPart).join(' + ');
  const how = contrast ? (contrast.takeover ? ' · takeover' : ' · contrast') : '';
  const tuned = lens ? ' · ' + (lens.writer === 'tuned' ? 'written by ' : 'with ') + tunedName(lens) : '';
  return last(expert) + ' against ' + last(amateur) + how + tuned;
}
function gradeOf({ graded, steps }) {
  const n = plural(steps.length, 'token');
  if (!graded) return [n];
  const { right, extracted, answer } = graded;
  return [el('b', { class: right ? 'lr-right' : 'lr-wrong' }, (extracted ?? 'No answer') + ' ', gradeSign(right)),
    ' known ' + answer + ' · ' + n];
}

const legend = () => el('div', { class: 'lr-legend' }, cue('apart', 'differs'),
  cue('apart lr-first', 'the first difference'), cue('above', 'KL above β'),
  el('span', { class: 'lr-cue', text: '+0.3 under a token: its KL minus that of the other trace, in nats' }));

/** One of the two traces. */
class Side {
  /** @param {number} at 0 or 1 @param {CompareView} view */
  constructor(at, view) {
    this.at = at;
    /** @type {any} */ this.record = null;
    /** @type {boolean[]} */ this.same = [];
    /** @type {(number | null)[]} */ this.partner = [];
    /** @type {HTMLElement[]} */ this.nodes = [];
    this.current = -1;
    this.title = el('h4');
    this.grade = el('span');
    this.link = el('a', { text: 'Open alone' });
    this.head = el('div', { class: 'lr-compare-head' }, this.title, this.grade, ' ', this.link);
    this.list = el('div', { class: 'lr-compare-list', role: 'listbox' });
    this.steps = new StepView({ alpha: (alpha) => view.setAlpha(alpha), cap: (cap) => view.setCap(cap), branch: null,
      move: (by) => view.jump(by, at), stops: ['difference', 'difference'] });
    this.list.addEventListener('click', ({ target }) => {
      const token = target instanceof Element && target.closest('.lr-token');
      if (token instanceof HTMLElement) view.select(at, Number(token.dataset.index), true);
    });
    view.card.follow(this.list);
  }
  /** What it is called to whoever hears the page. */
  name(name) {
    this.list.setAttribute('aria-label', name + ' response');
    this.steps.node.setAttribute('aria-label', 'The selected step, ' + name.toLowerCase());
  }
  /** rows: where the rows begin. other: the steps of the other side, by partner. */
  show(record, name, same, partner, rows, other) {
    Object.assign(this, { record, same, partner, current: -1 });
    this.title.textContent = name || titleOf(record);
    this.title.title = titleOf(record);
    this.grade.replaceChildren(...gradeOf(record));
    this.link.href = '?trace=' + record.id;
    this.nodes = record.steps.map((step, i) => {
      const node = tokenNode(step, i), pair = other[partner[i]], differs = !same[i];
      const change = pair ? (step.kl ?? Infinity) - (pair.kl ?? Infinity) : NaN;
      node.style.setProperty('--heat', (shade(METRICS[0], step) * 100).toFixed(1) + '%');
      node.classList.toggle('lr-above', isAbove(step, PAPER.beta));
      node.classList.toggle('lr-apart', differs);
      node.setAttribute('aria-label', 'Step ' + i + ': ' + tokenName(step.text) + ', ' +
        klText(step) + (differs ? ', differs' + (pair ? ' from ' + tokenName(pair.text) : '') : ''));
      if (this.at && Math.abs(change) >= NOTABLE) {
        node.classList.add('lr-with-delta');
        node.append(el('span', { class: 'lr-delta', 'data-text': formatSigned(change, 1) }));
      }
      return node;
    });
    this.list.replaceChildren(...rows.map(([...starts], row) => {
      const end = rows[row + 1] ? rows[row + 1][this.at] : this.nodes.length;
      const style = '--row:' + (row + 1) + ';--side:' + this.at;
      return el('div', { class: 'lr-compare-cell', role: 'presentation', style },
        ...this.nodes.slice(starts[this.at], end));
    }));
    this.steps.empty(true);
  }
  mark(i) {
    const [first] = this.nodes;
    moveSelection(this.nodes[this.current] || first, this.nodes[i ?? -1] || null, first);
    this.current = i ?? -1;
  }
  drawStep(alpha, cap) {
    const { record, current: i } = this, step = record.steps[i];
    if (!step) { this.steps.empty(true); return; }
    const run = { problem_id: record.problem_id, prompt_tokens: record.prompt_ids.length };
    step.teaching = teachingSignal(step, alpha, cap);
    this.steps.show(run, step, { candidates: step.candidates, tokens: record.tokens },
      { alpha, beta: PAPER.beta, cap }, undefined);
  }
  /** The beginning of the next or previous stretch that differs, or -1. */
  different(from, by) {
    for (let i = from + by; i >= 0 && i < this.nodes.length; i += by) {
      if (!this.same[i] && (i === 0 || this.same[i - 1])) return i;
    }
    return -1;
  }
}

export class CompareView {
  /**
   * @param {HTMLElement} root
   * @param {object} host
   * @param {(root: HTMLElement) => void} host.place puts the view on the page
   * @param {() => void} host.close
   * @param {(where: { left: number | null, right: number | null }) => void} host.address
   */
  constructor(root, host) {
    this.root = root;
    this.host = host;
    this.alpha = PAPER.alpha;
    /** @type {number | null} */ this.cap = null;
    root.classList.add('lr', 'lr-compare-view', 'lr-has-run'); // no part of it is to be hidden
    this.card = new TokenCard(root, (token) => {
      const side = this.sides.find(({ list }) => list.contains(token)), step = side?.record.steps[token.dataset.index];
      return step ? { step, alpha: this.alpha, cap: this.cap } : null;
    });
    this.sides = [new Side(0, this), new Side(1, this)];
    /** @type {string[]} */ this.names = [];
    /** @type {any} the server's */ this.answer = null;
    this.nameSides();
    NARROW.addEventListener('change', () => this.nameSides());
    this.error = createErrorBox();
    this.says = el('p', { role: 'status' });
    this.note = el('p', { class: 'lr-muted', hidden: true });
    this.question = el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem' });
    this.changes = el('table', { class: 'lr-compare-changes' });
    this.grid = el('div', { class: 'lr-compare-grid' }, ...this.sides.map(({ list }) => list));
    this.body = el('div', { class: 'lr-compare-body' }, this.question, this.changes, this.layOutButtons(),
      el('div', { class: 'lr-compare-heads' }, ...this.sides.map(({ head }) => head)), this.grid, legend(),
      el('div', { class: 'lr-keys lr-muted', text: KEYS_HELP }));
    this.views = el('div', { class: 'lr-compare-steps' }, ...this.sides.map(({ steps }) => steps.node));
    const back = el('button', { text: '‹ Back to one trace', onclick: () => host.close() });
    root.prepend(el('section', { class: 'lr-card lr-compare-card', 'aria-label': 'Two traces side by side' },
      el('div', { class: 'lr-top' }, el('h3', { text: 'Two traces of one problem' }), back), this.error.node,
      this.says, this.note, this.body), this.views);
    root.addEventListener('keydown', (event) => this.onKey(event));
  }
  layOutButtons() {
    const go = (text, title, act) => el('button', { text, title, onclick: act,
      'aria-label': title && text + ': ' + title });
    return el('div', { class: 'lr-menu', role: 'group', 'aria-label': 'Differences' },
      go('First difference', null, () => this.first(true)), go('‹ p', 'Previous difference', () => this.jump(-1)),
      go('n ›', 'Next difference', () => this.jump(1)));
  }
  /** @returns {string[]} */
  get sideNames() { return this.names.length ? this.names : NARROW.matches ? NARROW_NAMES : WIDE_NAMES; }
  /** Names the sides by where they stand, unless they have names of their own. */
  nameSides() {
    this.sides.forEach((side, n) => side.name(this.sideNames[n]));
    if (!this.answer || this.body.hidden) return;
    const { alignment: { same, first }, differences } = this.answer;
    this.says.textContent = this.summary(same, first);
    this.drawChanges(differences);
  }
  get shown() { return this.root.isConnected; }
  hide() {
    this.root.remove();
    this.card.hide();
  }
  /** Nothing to see yet, or at all: only this sentence. */
  wait(text, error = '') {
    this.host.place(this.root);
    this.body.hidden = this.views.hidden = this.note.hidden = true;
    this.error.show(error);
    this.says.textContent = text;
  }

  /**
   * The server's answer.
   * @param {any} answer @param {string[]} names of the two, where they have some
   * @param {number | null} step of the left trace, or else other, of the right one, to be selected; otherwise the first
   *   difference is
   * @param {string} [note] where this comparison comes from
   */
  show(answer, names, step, other, note = '') {
    const { left, right, alignment: { same, partner, first, rows } } = answer, records = [left, right];
    Object.assign(this, { names, answer });
    this.host.place(this.root);
    this.error.show('');
    this.body.hidden = this.views.hidden = false;
    this.note.hidden = !note;
    this.note.textContent = note;
    this.card.hide();
    this.firstOnes = first;
    this.question.textContent = left.request.question;
    this.sides.forEach((side, n) => side.show(records[n], names[n], same[n], partner[n], rows, records[1 - n].steps));
    first.forEach((i, n) => this.sides[n].nodes[i ?? -1]?.classList.add('lr-first'));
    this.nameSides();
    if (left.steps[step]) this.select(0, step, false);
    else if (right.steps[other]) this.select(1, other, false);
    else this.first(false);
  }
  summary(same, first) {
    const apart = same.map((side) => side.filter((is) => !is).length);
    if (!apart[0] && !apart[1]) return 'The two responses are the same.';
    const quoted = (i, n) => '“' + tokenLabel(this.sides[n].record.steps[i].text) + '”';
    const texts = first.map((i, n) => (i === null ? 'nothing' : quoted(i, n)));
    const shared = Math.min(...first.map((i, n) => i ?? same[n].length));
    const [left, right] = this.sideNames.map((name) => AT[name]);
    const begin = shared ? 'The same for ' + plural(shared, 'token') + ', then '
      : 'Different from the first token on: ';
    return begin + texts.join(' against ') + '. ' + apart[0] + ' of ' +
      plural(same[0].length, 'token') + ' ' + left + ' and ' + apart[1] + ' of ' + same[1].length + ' ' + right +
      ' differ.';
  }
  drawChanges(differences) {
    const cell = (text) => el('td', { text: tokenLabel(text, 60) }), heads = ['What differs', ...this.sideNames];
    this.changes.hidden = !differences.length;
    this.changes.replaceChildren(
      el('thead', {}, el('tr', {}, ...heads.map((text) => el('th', { scope: 'col', text })))),
      el('tbody', {}, ...differences.map(({ what, left, right }) => el('tr', {},
        el('th', { scope: 'row', text: what }), cell(left), cell(right)))));
  }
  /** One cursor through both. */
  select(n, i, focus) {
    const side = this.sides[n], other = this.sides[1 - n];
    if (i < 0 || i >= side.nodes.length) return;
    side.mark(i);
    other.mark(side.partner[i]);
    const node = side.nodes[i];
    if (focus) node.focus({ preventScroll: true });
    this.scrollTo(node);
    for (const each of this.sides) each.drawStep(this.alpha, this.cap);
    const [left, right] = this.sides.map(({ current }) => (current < 0 ? null : current));
    this.active = n;
    this.host.address({ left, right: left === null ? right : null });
  }
  scrollTo(node) {
    const box = this.grid.getBoundingClientRect(), token = node.getBoundingClientRect();
    if (token.top < box.top || token.bottom > box.bottom) this.grid.scrollTop += token.top - box.top - box.height / 3;
  }
  first(focus) {
    const n = this.firstOnes[0] === null && this.firstOnes[1] !== null ? 1 : 0;
    this.select(n, this.firstOnes[n] ?? 0, focus);
  }
  jump(by, n = this.active ?? 0) {
    const side = this.sides[n], i = side.different(side.current, by);
    if (i >= 0) this.select(n, i, true);
  }
  setAlpha(alpha) {
    this.alpha = clamp(alpha, PAPER.alphaFloor, 1);
    for (const side of this.sides) side.drawStep(this.alpha, this.cap);
  }
  setCap(cap) {
    this.cap = cap;
    this.setAlpha(this.alpha);
  }
  onKey(event) {
    const n = this.active ?? 0, side = this.sides[n], other = this.sides[1 - n];
    const moves = { n: () => this.jump(1), p: () => this.jump(-1),
      ArrowRight: () => this.select(n, side.current + 1, true),
      ArrowLeft: () => this.select(n, side.current - 1, true), Home: () => this.select(n, 0, true),
      End: () => this.select(n, side.nodes.length - 1, true), ArrowUp: () => this.select(1 - n, other.current, true),
      ArrowDown: () => this.select(1 - n, other.current, true) };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in moves)) return;
    if (event.defaultPrevented || isTaken(event)) return;
    event.preventDefault();
    moves[event.key]();
  }
}

// @ts-check
// The problems that changed sides, in two lists: those that a model gained and those that it lost.
import { createErrorBox, el, labelled, muted, optionsOf, replaceIfChanged } from '../shared/dom.js';
import { formatCount } from '../shared/format.js';
import { answerText, handMark } from './verdict.js';

const SIDES = { gained: ['Gained', 'wrong before, right after'], lost: ['Lost', 'right before, wrong after'] };
function answer(name, text, grade, byHand = false) {
  const sign = { right: '✓', wrong: '✕' }[grade];
  return el('span', { class: 'lr-flip-answer' + (grade ? ' lr-' + grade : '') },
    muted(name + ' '), el('bdi', { text }),
    sign && el('b', { text: ' ' + sign, 'aria-label': grade }), byHand && ' ', byHand && handMark());
}
function flipRow(row, side, onOpen) {
  const [before, after] = side === 'gained' ? ['wrong', 'right'] : ['right', 'wrong'];
  const { by_hand: byHand = [] } = row;
  return el('li', {}, el('button', { class: 'lr-flip-row', 'data-key': side + row.problem,
    onclick: onOpen },
  el('span', { class: 'lr-flip-question', text: row.question }),
  el('span', { class: 'lr-flip-answers' }, answer('Known', row.answer, ''),
    answer('Before', answerText(row.before), before, byHand.includes('before')),
    answer('After', answerText(row.after), after, byHand.includes('after')))));
}

/** One of the two lists; its rows come from the server, some at a time. */
class FlipList {
  constructor(side, host) {
    this.side = side;
    this.host = host;
    this.asked = 0;
    this.items = el('ol', { class: 'lr-flip-list' });
    this.head = el('h4', { tabindex: '-1', text: SIDES[side][0] });
    this.none = el('p', { class: 'lr-muted', hidden: true, text: 'None.' });
    this.error = createErrorBox();
    this.more = el('button', { hidden: true, text: 'Show more',
      onclick: () => this.load(this.of, this.items.childElementCount) });
    this.node = el('div', {}, this.head, this.none, this.items, this.more, this.error.node);
  }
  /** of: { id, model }, the evaluation and which of its models. */
  async load(of, start) {
    this.of = of;
    const mine = ++this.asked, answer = await this.host.listed(of.model, this.side, start);
    if (mine !== this.asked || this.error.show(answer.error)) return;
    const rows = () => answer.rows.map((row) =>
      flipRow(row, this.side, () => this.host.open(of.model, row.problem)));
    if (start) {
      const added = rows();
      this.items.append(...added);
      added[0]?.firstChild.focus();
    } else replaceIfChanged(this.items, [of, answer], rows);
    this.head.textContent = SIDES[this.side][0] + ' ' + formatCount(answer.total) + ' · ' + SIDES[this.side][1];
    this.none.hidden = answer.total > 0;
    this.more.hidden = this.items.childElementCount >= answer.total;
  }
  focus() {
    this.head.scrollIntoView({ block: 'center' });
    this.head.focus({ preventScroll: true });
  }
}

export class FlipLists {
  /** @param {any} host the calls on the opened evaluation, of mount.js */
  constructor(host) {
    this.pick = el('select', { 'aria-label': 'Flips of which model',
      onchange: () => { this.model = Number(this.pick.value); this.load(); } });
    this.picker = labelled('Model', this.pick, { hidden: true });
    this.lists = Object.keys(SIDES).map((side) => new FlipList(side, host));
    this.says = el('p', { class: 'lr-muted' });
    this.node = el('section', { class: 'lr-card lr-flips', 'aria-label': 'Problems that changed sides', hidden: true },
      el('div', { class: 'lr-top' }, el('h3', { text: 'Problems that changed sides' }), this.picker), this.says,
      el('div', { class: 'lr-flip-lists' }, ...this.lists.map((list) => list.node)));
    this.begin();
  }
  begin() {
    /** @type {any} */ this.data = null;
    this.drawn = '';
    this.model = 1;
    this.node.hidden = true;
  }
  /** The evaluation's new state. The lists are loaded again only when a count changed. */
  update(data) {
    const { comparisons, models } = this.data = data;
    this.node.hidden = !comparisons.length;
    if (this.node.hidden) return;
    this.picker.hidden = comparisons.length < 2;
    const names = comparisons.map((c) => [c.model, models[c.model].name]);
    replaceIfChanged(this.pick, names, () => optionsOf(names));
    this.pick.value = String(this.model);
    const counts = JSON.stringify([data.id, comparisons.map((c) => [c.gained, c.lost]), models.map((m) => m.by_hand)]);
    if (counts === this.drawn || (this.drawn && this.node.contains(document.activeElement))) return;
    this.drawn = counts;
    this.load();
  }
  load() {
    const { id, comparisons, models } = this.data;
    this.model = (comparisons.find((c) => c.model === this.model) || comparisons[0]).model;
    this.pick.value = String(this.model);
    this.says.textContent = 'Before: ' + models[0].name + '. After: ' + models[this.model].name +
      '. Open one to see where the two responses diverge.';
    for (const list of this.lists) list.load({ id, model: this.model }, 0);
  }
  show(model, side) {
    this.model = model;
    this.load();
    this.lists.find((list) => list.side === side).focus();
  }
}

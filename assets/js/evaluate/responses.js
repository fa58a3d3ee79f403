// @ts-check
// The responses of one model, all or those of a filter: each opens in place, with its text and its verdict.
import { createErrorBox, el, labelled, muted, optionsOf, replaceIfChanged } from '../shared/dom.js';
import { plural } from '../shared/format.js';
import { Verdict, answerText, gradeClass, gradeSign, gradeWord, handMark } from './verdict.js';

const FILTERS = [['all', 'All'], ['right', 'Right'], ['wrong', 'Wrong'], ['unread', 'No answer extracted'],
  ['by_hand', 'Set by hand']];

/** One response: a line that opens. */
class ResponseRow {
  /** @param {any} host @param {number} model @param {any} row @param {boolean} several per problem */
  constructor(host, model, row, several) {
    this.host = host;
    this.model = model;
    this.row = row;
    this.several = several;
    this.read = false;
    this.grade = el('span', { class: 'lr-flip-answers' });
    this.inside = el('div', { class: 'lr-response-inside' });
    this.node = el('details', { class: 'lr-one-response', ontoggle: () => this.node.open && this.open() },
      el('summary', {}, el('span', { class: 'lr-flip-question', text: row.question }), this.grade), this.inside);
    this.drawGrade(row);
  }
  drawGrade({ extracted, right, by_hand: byHand }) {
    const { row } = this, muted = (text) => el('span', { class: 'lr-muted', text });
    this.grade.replaceChildren(
      el('span', { class: gradeClass(right) },
        el('b', { text: gradeSign(right) + ' ' + gradeWord(right) }), byHand && ' ', byHand && handMark()),
      el('span', { class: 'lr-flip-answer' }, muted('Answer '), el('bdi', { text: answerText(extracted) })),
      row.answer === null ? '' :
        el('span', { class: 'lr-flip-answer' }, muted('Known '), el('bdi', { text: answerText(row.answer) })),
      this.several ? muted('Response ' + (row.sample + 1)) : '');
  }
  async open() {
    if (this.read) return;
    this.read = true;
    const { problem, sample } = this.row, { host, model } = this, error = createErrorBox();
    this.inside.replaceChildren(muted('Reading …', 'p'));
    const answer = await host.response(model, problem, sample);
    this.inside.replaceChildren(error.node);
    if (error.show(answer.error)) { this.read = false; return; }
    const verdict = new Verdict((right) => host.setVerdict(model, problem, sample, right),
      (now) => this.drawGrade(now));
    verdict.show(answer);
    const question = el('blockquote', { class: 'lr-question', text: answer.question });
    this.inside.replaceChildren(...(answer.question === this.row.question ? [] : [question]), verdict.node,
      el('pre', { class: 'lr-flip-text', tabindex: '0', 'aria-label': 'The response',
        text: answer.response || '(an empty response)' }));
  }
}

export class ResponseList {
  /** @param {any} host the calls on the opened evaluation, of mount.js */
  constructor(host) {
    this.host = host;
    this.asked = 0;
    const pick = (label, ...choices) => el('select', { 'aria-label': label, onchange: () => this.load(0) }, ...choices);
    this.pick = pick('Responses of which model');
    this.filter = pick('Which responses', ...optionsOf(FILTERS));
    this.picker = labelled('Model', this.pick);
    this.count = el('p', { class: 'lr-muted', role: 'status' });
    this.items = el('div', { class: 'lr-response-list' });
    this.error = createErrorBox();
    this.more = el('button', { hidden: true, text: 'Show more',
      onclick: () => this.load(this.items.childElementCount) });
    this.node = el('section', { class: 'lr-card lr-flips', 'aria-label': 'Responses', hidden: true },
      el('div', { class: 'lr-top' }, el('h3', { text: 'Responses' }), el('div', { class: 'lr-filters' }, this.picker,
        labelled('Show', this.filter))),
      this.count, this.items, this.more, this.error.node);
    this.begin();
  }
  begin() {
    this.drawn = '';
    this.asked++;
    this.filter.value = 'all';
    this.node.hidden = true;
  }
  /** The evaluation's new state. The list is loaded again only when there are more answers, or others were read. */
  update({ id, models, judged }) {
    const shown = models.map((m, n) => [n, m.name]).filter(([n]) => models[n].problems);
    this.node.hidden = !shown.length;
    if (this.node.hidden) return;
    this.several = models.some((m) => m.samples > 1);
    this.picker.hidden = shown.length < 2;
    const chosen = this.pick.value;
    replaceIfChanged(this.pick, [id, shown], () => optionsOf(shown));
    if (shown.some(([n]) => String(n) === chosen) && this.drawn) this.pick.value = chosen;
    const mark = JSON.stringify([id, models.map((m) => m.responses || m.problems), judged?.changes]);
    const inUse = this.drawn && this.items.querySelector('details[open]');
    if (mark === this.drawn || inUse) return;
    this.drawn = mark;
    this.load(0);
  }
  async load(start) {
    const mine = ++this.asked, model = Number(this.pick.value);
    const answer = await this.host.responses(model, this.filter.value, start);
    if (mine !== this.asked || this.error.show(answer.error)) return;
    const rows = answer.rows.map((row) => new ResponseRow(this.host, model, row, this.several).node);
    if (start) {
      this.items.append(...rows);
      rows[0]?.querySelector('summary').focus();
    } else this.items.replaceChildren(...rows);
    this.count.textContent = plural(answer.total, 'response') + '. Open one to read it and to set its verdict.';
    this.more.hidden = this.items.childElementCount >= answer.total;
  }
}

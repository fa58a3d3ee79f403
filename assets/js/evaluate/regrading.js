// @ts-check
// Judging the stored responses again by today's rules: the button, how far it is, and what changed.
import { createErrorBox, el, replaceIfChanged, setText } from '../shared/dom.js';
import { formatCount, plural } from '../shared/format.js';
import { isActive } from '../shared/run_list.js';
import { answerText, gradeSign, gradeWord } from './verdict.js';

const SAYS = 'Judge the stored responses by today’s rules, without running a model. Verdicts set by hand stay.';
export const isJudging = (judged) => !!judged && 'done' in judged;

function sentence({ judged, flipped, read, changes }) {
  const all = plural(judged, 'response') + ' judged again: ';
  if (!changes.length) return all + 'nothing changed. Today’s rules give every verdict and answer as stored.';
  const same = judged - flipped - read;
  return all + plural(flipped, 'verdict') + ' changed, ' + plural(read, 'answer') +
    (read === 1 ? ' is' : ' are') + ' read in another way with the same verdict, ' + formatCount(same) +
    ' stayed as stored.';
}
function side(title, [right, extracted]) {
  return el('span', { class: 'lr-flip-answer lr-' + gradeWord(right) }, el('span', { class: 'lr-muted',
    text: title + ' ' }), el('bdi', { text: answerText(extracted) }),
  el('b', { text: ' ' + gradeSign(right), 'aria-label': gradeWord(right) }));
}
function changeRow(change, name, several) {
  const byHand = change.by_hand === null ? [] : [el('span', { class: 'lr-muted',
    text: 'set by hand: ' + gradeWord(change.by_hand) + ', which still counts' })];
  return el('li', {}, el('span', { text: name + ' · problem ' + change.problem_id +
      (several ? ' · response ' + (change.sample + 1) : '') }),
    el('span', { class: 'lr-flip-answers' }, el('span', { class: 'lr-flip-answer' }, el('span', { class: 'lr-muted',
      text: 'Known ' }), el('bdi', { text: answerText(change.answer) })), side('Before', change.before),
    side('Now', change.after), ...byHand));
}

export class Regrading {
  /** @param {() => Promise<any>} begin */
  constructor(begin) {
    this.button = el('button', { text: 'Judge again', title: SAYS, onclick: async () => {
      this.button.disabled = true;
      const answer = await begin();
      this.button.disabled = this.judging;
      this.error.show(answer.error);
    } });
    this.judging = false;
    this.status = el('p', { class: 'lr-muted', role: 'status' });
    this.error = createErrorBox();
    this.list = el('ol', { class: 'lr-flip-list lr-changes', tabindex: '0', 'aria-label': 'What changed' });
    this.rest = el('p', { class: 'lr-muted' });
    this.node = el('section', { class: 'lr-regrading', 'aria-label': 'Judged again', hidden: true }, this.status,
      this.error.node, this.list, this.rest);
  }
  hide() { this.error.show(''); }
  show({ state, models, judged, labels }) {
    const answered = models.some((m) => m.problems);
    this.button.hidden = !answered || isActive(state);
    this.judging = isJudging(judged);
    this.button.disabled = this.judging;
    const ended = judged && !this.judging && !judged.error ? judged : null;
    if (judged?.error) this.error.show(judged.error);
    this.node.hidden = !judged && !!this.error.node.hidden;
    const progress = () => 'Judging: ' + formatCount(judged.done) + ' of ' + plural(judged.total, 'response');
    setText(this.status, this.judging ? progress() : ended ? sentence(ended) : '');
    const changes = ended ? ended.changes : [], several = models.some((m) => m.samples > 1);
    replaceIfChanged(this.list, changes, () => changes.map((change) =>
      changeRow(change, labels[change.model] || change.model, several)));
    const more = ended ? ended.flipped + ended.read - changes.length : 0;
    setText(this.rest, more > 0 ? 'and ' + formatCount(more) + ' more; the command evaluate --regrade lists all.' : '');
    this.rest.hidden = more <= 0;
  }
}

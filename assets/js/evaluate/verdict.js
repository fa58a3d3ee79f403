// @ts-check
// The verdict on one response: right or wrong, the answer that was extracted, and buttons that set it by hand.
import { createErrorBox, el } from '../shared/dom.js';
import { plural } from '../shared/format.js';

/** @typedef {{ extracted: string | null, right: boolean | null, judged: boolean | null, by_hand: boolean }} Judged */

const MOST = 60; // characters of an answer in a list
export function answerText(text) {
  if (text === null || text === undefined) return 'no answer extracted';
  return text.length > MOST ? text.slice(0, MOST - 1) + '\u2026' : text;
}
// null: no answer is known
export const gradeSign = (right) => (right === null ? '\u2013' : right ? '\u2713' : '\u2715');
export const gradeWord = (right) => (right === null ? 'not graded' : right ? 'right' : 'wrong');
export const gradeClass = (right) => (right === null ? 'lr-muted' : 'lr-' + gradeWord(right));
export const handMark = () => el('span', { class: 'lr-by-hand', text: 'by hand' });

export class Verdict {
  /**
   * @param {(right: boolean | null) => Promise<any>} set stores a verdict; null takes it back
   * @param {(now: Judged) => void} [onSet]
   */
  constructor(set, onSet) {
    this.set = set;
    this.onSet = onSet;
    this.line = el('p', {});
    this.error = createErrorBox();
    const button = (text, right, title) =>
      el('button', { type: 'button', text, title, onclick: () => this.store(right) });
    this.right = button('\u2713 Right', true, 'Count this response as right');
    this.wrong = button('\u2715 Wrong', false, 'Count this response as wrong');
    this.back = button('As graded', null, 'Take back the verdict set by hand');
    this.choice = el('div', { class: 'lr-judged-choice', role: 'group', 'aria-label': 'Verdict by hand' },
      el('span', { class: 'lr-muted', text: 'Set by hand:' }), this.right, this.wrong, this.back);
    this.node = el('div', { class: 'lr-judged' }, this.line, this.choice, this.error.node);
  }
  /** @param {Judged & { tokens: number, cut: boolean }} answer */
  show(answer) {
    this.answer = answer;
    const { right, judged, by_hand: byHand } = answer;
    this.line.className = gradeClass(right);
    this.choice.hidden = judged === null;
    this.line.replaceChildren(el('b', { text: gradeSign(right) + ' ' + gradeWord(right) }),
      ...(byHand ? [' ', handMark(), el('span', { class: 'lr-muted', text: ' (graded ' + gradeWord(judged) + ')' })]
        : []),
      answer.extracted === null ? ', ' : ', answer ', el('bdi', { text: answerText(answer.extracted) }),
      ' \u00b7 ' + plural(answer.tokens, 'token') + (answer.cut ? ', cut off' : ''));
    for (const [button, value] of /** @type {const} */ ([[this.right, true], [this.wrong, false]])) {
      button.setAttribute('aria-pressed', String(byHand && right === value));
    }
    this.back.hidden = !byHand;
    this.error.show('');
  }
  async store(right) {
    const now = await this.set(right);
    if (this.error.show(now.error)) return;
    const focused = document.activeElement === this.back;
    this.show({ ...this.answer, ...now });
    if (focused) this[now.right ? 'right' : 'wrong'].focus(); // the button is gone
    this.onSet?.(now);
  }
}

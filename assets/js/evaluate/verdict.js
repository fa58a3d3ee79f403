// @ts-check
// The verdict on one response: right or wrong, the answer that was extracted, and buttons that set it by hand.
import { createErrorBox, el, muted } from '../shared/dom.js';
import { plural } from '../shared/format.js';

/** @typedef {{ extracted: string | null, right: boolean | null, judged: boolean | null, by_hand: boolean }} Judged */

const MOST = 60; // characters of an answer in a list
export function answerText(text) {
  if (text === null || text === undefined) return 'no answer extracted';
  return text.length > MOST ? text.slice(0, MOST - 1) + '…' : text;
}
// null: no answer is known
export const gradeSign = (right) => (right === null ? '–' : right ? '✓' : '✕');
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
      el('button', { text, title, onclick: () => this.store(right) });
    this.right = button('✓ Right', true, 'Count this response as right');
    this.wrong = button('✕ Wrong', false, 'Count this response as wrong');
    this.back = button('As graded', null, 'Take back the verdict set by hand');
    this.choice = el('div', { class: 'lr-judged-choice', role: 'group', 'aria-label': 'Verdict by hand' },
      muted('Set by hand:'), this.right, this.wrong, this.back);
    this.node = el('div', { class: 'lr-judged' }, this.line, this.choice, this.error.node);
  }
  /** @param {Judged & { tokens: number, cut: boolean }} answer */
  show(answer) {
    this.answer = answer;
    const { right, judged, by_hand: byHand } = answer;
    this.line.className = gradeClass(right);
    this.choice.hidden = judged === null;
    this.line.replaceChildren(el('b', { text: gradeSign(right) + ' ' + gradeWord(right) }),
      ...(byHand ? [' ', handMark(), muted(' (graded ' + gradeWord(judged) + ')')]
        : []),
      answer.extracted === null ? ', ' : ', answer ', el('bdi', { text: answerText(answer.extracted) }),
      ' · ' + plural(answer.tokens, 'token') + (answer.cut ? ', cut off' : ''));
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

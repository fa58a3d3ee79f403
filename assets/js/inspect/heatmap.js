// @ts-check
// The response as tokens: colour for the metric, an underline for KL above beta, a cut corner where the top-1 tokens
// differ, and on the other side one where training changed the expert's top-1 token. A line over the token where a
// contrast wrote it. What teaches nothing is pale.
import { el } from '../shared/dom.js';
import { LONGEST_LABEL, formatNats, splitInvisible, tokenName, visibleCharacter } from '../shared/format.js';
import { sharedCharacters } from './characters.js';
import { isAbove, klText, shade, teachesNothing } from './measures.js';
import { aloneSays, isMarked, isRewritten, isTakenOver } from './writer.js';

const PIECES = 4; // tokens at most that share a character

export function tokenNode(step, index) {
  const node = el('span', { class: 'lr-token', role: 'option', 'aria-selected': 'false', tabindex: index ? '-1' : '0',
    'data-index': index });
  const characters = Array.from(step.text);
  const text = characters.length > LONGEST_LABEL ? characters.slice(0, LONGEST_LABEL).join('') + '…' : step.text;
  const pieces = text.trim() === '' ? ['', ...Array.from(text).flatMap((c) => [c, ''])] : splitInvisible(text);
  pieces.forEach((piece, i) => { // every second piece is one invisible character
    if (i % 2 === 0) { if (piece) node.append(piece); return; }
    node.append(el('span', { class: 'lr-glyph', text: piece === ' ' ? '␣' : visibleCharacter(piece) }));
    if (piece === '\n') node.append('\n');
  });
  if (text === '') node.append(el('span', { class: 'lr-glyph', text: '∅' }));
  return node;
}
/** Moves the selection among tokens, of which one can be reached by Tab: the selected one, or `otherwise`. */
export function moveSelection(before, now, otherwise = now) {
  before.setAttribute('aria-selected', 'false');
  before.tabIndex = -1;
  now?.setAttribute('aria-selected', 'true');
  (now || otherwise).tabIndex = 0;
}
/** An entry of a legend: a token that looks so, and what that says. */
export const cue = (looks, text) => el('span', { class: 'lr-cue' },
  el('span', { class: 'lr-sample lr-' + looks, text: 'token' }), ' ' + text);

function describe(step, i, above) {
  return ['Step ' + i + ': ' + tokenName(step.text), step.whole && 'part of ' + step.whole,
    klText(step),
    above && 'above beta', teachesNothing(step) && 'teaches nothing',
    !step.agree && 'the two models prefer different tokens',
    step.tuned_kl !== undefined && 'moved by training ' + formatNats(step.tuned_kl ?? Infinity),
    step.tuned_changed && 'training changed the top-1 token', aloneSays(step)].filter(Boolean).join(', ');
}

export class Heatmap {
  /** @param {(step: number, focus: boolean) => void} onSelect */
  constructor(onSelect) {
    this.node = el('div', { class: 'lr-tokens', role: 'listbox', 'aria-label': 'The response, token by token',
      tabindex: '-1' });
    /** @type {HTMLElement[]} */ this.nodes = [];
    /** @type {any[]} */ this.steps = [];
    this.current = -1;
    this.beta = 0;
    this.forced = -1; // the step of a branch whose token the user chose
    this.node.addEventListener('click', (event) => {
      const token = /** @type {HTMLElement} */ (event.target).closest('.lr-token');
      if (token instanceof HTMLElement) onSelect(Number(token.dataset.index), true);
    });
  }
  reset() { this.nodes = []; this.steps = []; this.current = -1; this.node.replaceChildren(); }
  busy(is) { this.node.setAttribute('aria-busy', String(is)); }

  append(more, metric, beta) {
    const grid = this.node, follow = grid.scrollHeight - grid.scrollTop - grid.clientHeight < 40;
    const part = document.createDocumentFragment(), first = this.steps.length;
    this.beta = beta;
    for (const step of more) {
      const node = tokenNode(step, this.steps.length);
      this.nodes.push(node);
      this.steps.push(step);
      part.append(node);
    }
    this.share(Math.max(0, first - PIECES));
    for (let i = first; i < this.steps.length; i++) this.paint(i, metric);
    grid.append(part);
    if (follow) grid.scrollTop = grid.scrollHeight;
  }
  /** Shows the characters that tokens from here on share, under the first token of each. */
  share(start) {
    for (const { from, to, text } of sharedCharacters(this.steps.slice(start).map((step) => step.text))) {
      for (let i = start + from; i <= start + to; i++) {
        this.steps[i].whole = text;
        this.nodes[i].classList.add('lr-piece');
        this.underline(i);
      }
      const node = this.nodes[start + from];
      if (!node.querySelector('.lr-whole')) node.append(el('span', { class: 'lr-whole', 'data-text': text }));
    }
  }
  repaint(metric) { for (let i = 0; i < this.steps.length; i++) this.paint(i, metric); }
  paint(i, metric) {
    const step = this.steps[i], node = this.nodes[i];
    node.style.setProperty('--heat', (shade(metric, step) * 100).toFixed(1) + '%');
    node.classList.toggle('lr-idle', teachesNothing(step));
    node.classList.toggle('lr-differs', !step.agree);
    node.classList.toggle('lr-changed', !!step.tuned_changed);
    node.classList.toggle('lr-rewritten', isRewritten(step));
    node.classList.toggle('lr-taken-over', isTakenOver(step));
    node.classList.toggle('lr-forced', i === this.forced);
    this.underline(i);
  }
  underline(i) {
    const above = isAbove(this.steps[i], this.beta);
    this.nodes[i].classList.toggle('lr-above', above);
    this.nodes[i].setAttribute('aria-label', describe(this.steps[i], i, above) +
      (i === this.forced ? ', forced by you' : ''));
  }
  setBeta(beta) { // only tokens that change sides are touched: thousands in one frame
    const before = this.beta;
    this.beta = beta;
    this.steps.forEach((step, i) => { if (isAbove(step, before) !== isAbove(step, beta)) this.underline(i); });
  }

  select(i, focus) {
    const { nodes, node: grid } = this;
    if (i < 0 || i >= nodes.length) return false;
    moveSelection(nodes[this.current] || nodes[0], nodes[i]);
    this.current = i;
    if (focus) nodes[i].focus({ preventScroll: true });
    const box = grid.getBoundingClientRect(), token = nodes[i].getBoundingClientRect();
    if (token.top < box.top || token.bottom > box.bottom) grid.scrollTop += token.top - box.top - box.height / 2;
    return true;
  }
  // The nearest token on the next line of text, up or down.
  onLine(direction) {
    const { nodes, current } = this;
    if (current < 0) return 0;
    const from = nodes[current].getBoundingClientRect(), middle = from.left + from.width / 2;
    let best = -1, distance = Infinity, line = null;
    for (let i = current + direction; i >= 0 && i < nodes.length; i += direction) {
      const box = nodes[i].getBoundingClientRect();
      if ((box.top - from.top) * direction < from.height * 0.6) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > from.height * 0.6) break;
      const off = Math.abs(box.left + box.width / 2 - middle);
      if (off < distance) { distance = off; best = i; }
    }
    return best;
  }
  nextAbove(direction) { return this.next(direction, (step) => isAbove(step, this.beta)); }
  nextMarked(direction) { return this.next(direction, isMarked); }
  next(direction, wanted) {
    let i = this.current + direction;
    while (this.steps[i] && !wanted(this.steps[i])) i += direction;
    return this.steps[i] ? i : -1;
  }
}

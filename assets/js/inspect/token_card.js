// @ts-check
// The card beside a token that the pointer or the keyboard rests on: its KL, and three bars. All of it came with the
// step, so the card asks nobody and is there at once.
import { el, muted } from '../shared/dom.js';
import { tokenLabel } from '../shared/format.js';
import { klText, takenProbabilities } from './measures.js';
import { probabilityBar } from './step_view.js';

const NAMES = { expert: 'Expert', amateur: 'Amateur', target: 'Target' };
let cards = 0;

/** What a card says of a step at this α and cap. */
function content(step, alpha, cap) {
  const found = takenProbabilities(step, alpha, cap);
  const row = (who) => (found[who] === null ? null : el('div', { class: 'lr-card-row' },
    el('span', { text: NAMES[who] }), probabilityBar(who, found[who], who !== 'target' || found.plausible)));
  return [el('div', { class: 'lr-card-head' }, el('code', { text: tokenLabel(step.text) }),
    el('b', { text: klText(step) })),
  ...Object.keys(NAMES).map(row).filter(Boolean),
  muted(found.says, 'div')];
}

export class TokenCard {
  /**
   * @param {HTMLElement} root in which it stands
   * @param {(token: HTMLElement) => { step: any, alpha: number, cap?: number | null } | null} of what a token is
   */
  constructor(root, of) {
    this.root = root;
    this.of = of;
    /** @type {HTMLElement | null} */ this.token = null;
    this.node = el('div', { class: 'lr-token-card', role: 'tooltip', id: 'lr-token-card-' + cards++, hidden: true });
    root.append(this.node);
  }
  /** Follows the pointer and the focus over tokens. @param {HTMLElement} text */
  follow(text) {
    const tokenOf = ({ target }) => (target instanceof Element ? /** @type {HTMLElement | null} */ (
      target.closest('.lr-token')) : null);
    text.addEventListener('pointerover', (event) => { if (event.pointerType !== 'touch') this.show(tokenOf(event)); });
    text.addEventListener('pointerleave', () => this.hide());
    text.addEventListener('focusin', (event) => {
      const token = tokenOf(event);
      if (token?.matches(':focus-visible')) this.show(token);
    });
    text.addEventListener('focusout', () => this.hide());
    text.addEventListener('scroll', () => this.hide(), { passive: true });
    text.addEventListener('keydown', (event) => { if (event.key === 'Escape') this.hide(); });
  }
  /** @param {HTMLElement | null} token */
  show(token) {
    const found = token && this.of(token);
    if (!found) { this.hide(); return; }
    if (token === this.token) return;
    this.hide();
    this.token = token;
    token.setAttribute('aria-describedby', this.node.id);
    this.node.replaceChildren(...content(found.step, found.alpha, found.cap));
    this.node.hidden = false;
    this.place(token);
  }
  /** Under the token's last line, or above its first one where the window ends. @param {HTMLElement} token */
  place(token) {
    const box = this.root.getBoundingClientRect(), lines = [...token.getClientRects()];
    const [first, last] = [lines[0], lines[lines.length - 1]], { offsetWidth: wide, offsetHeight: high } = this.node;
    const below = last.bottom + 6 + high <= innerHeight || first.top - 6 - high < 0;
    const top = below ? last.bottom + 6 : first.top - 6 - high;
    const left = Math.min(last.left, Math.min(box.right, innerWidth) - wide - 4);
    this.node.style.top = top - box.top + 'px';
    this.node.style.left = Math.max(0, left - box.left) + 'px';
  }
  hide() {
    this.token?.removeAttribute('aria-describedby');
    this.token = null;
    this.node.hidden = true;
  }
}

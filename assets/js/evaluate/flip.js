// @ts-check
// One problem that changed sides: the question, both responses, and both as heatmaps of the change that tuning made.
import { createCurve } from '../inspect/kl_curve.js';
import { Viewer, showRecord } from '../inspect/viewer.js';
import { createErrorBox, el } from '../shared/dom.js';
import { plural } from '../shared/format.js';
import { Verdict } from './verdict.js';

/** One of the two responses. */
class FlipSide {
  /** @param {'before' | 'after'} side @param {(answer: any, right: boolean | null) => Promise<any>} setVerdict */
  constructor(side, setVerdict) {
    this.side = side;
    /** @type {any} */ this.record = null;
    this.title = el('h3');
    this.verdict = new Verdict((right) => setVerdict(this.answer, right));
    this.text = el('pre', { class: 'lr-flip-text', tabindex: '0' });
    this.link = el('a', { hidden: true, text: 'Open in Inspect' });
    this.stage = el('div', { hidden: true });
    this.viewer = new Viewer(this.stage, { curve: createCurve, idle: '', kinds: [['png', 'A picture']],
      details: async (_, i) => ({ candidates: this.record.steps[i].candidates, tokens: this.record.tokens }),
      address: ({ run, step }) =>
        this.link.setAttribute('href', '?trace=' + run.run + (step >= 0 ? '&step=' + step : '')) });
    for (const region of this.stage.querySelectorAll('section[aria-label]')) { // there are two of each
      region.setAttribute('aria-label', region.getAttribute('aria-label') + ', ' + side);
    }
    this.node = el('div', { class: 'lr-flip-side', role: 'group' },
      el('div', { class: 'lr-card lr-flip-response' }, this.title, this.verdict.node, this.link, this.text),
      this.stage);
  }
  showResponse(answer) {
    this.record = null;
    this.answer = answer;
    this.title.textContent = (this.side === 'before' ? 'Before: ' : 'After: ') + answer.name;
    this.verdict.show(answer);
    this.text.textContent = answer.response || '(an empty response)';
    this.text.setAttribute('aria-label', 'The response ' + this.side);
    this.text.hidden = false;
    this.stage.hidden = this.link.hidden = true;
  }
  showTrace(record, step) {
    this.record = record;
    this.text.hidden = true;
    this.stage.hidden = this.link.hidden = false;
    showRecord(this.viewer, record);
    this.viewer.setStatus('', false);
    if (step < record.steps.length) this.viewer.select(step, false);
  }
}
function whereTheyDiverge({ before, after, shared }) {
  if (before.response === after.response) return 'The two responses are the same.';
  if (shared === 0) return 'The two responses diverge at the first token.';
  if (shared >= Math.min(before.tokens, after.tokens)) return 'One response is the beginning of the other.';
  return 'The two responses are the same for ' + plural(shared, 'token') + ' and diverge there.';
}

export class FlipView {
  /** @param {any} host the calls on the opened evaluation, of mount.js */
  constructor(host) {
    this.host = host;
    /** @type {{ model: number, problem: string, answer?: any } | null} */ this.at = null;
    this.back = el('button', { text: '‹ Back to the evaluation', onclick: host.close });
    this.name = el('span', { class: 'lr-reader-name' });
    this.error = createErrorBox();
    this.question = el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem' });
    this.known = el('p');
    this.divergence = el('p', { class: 'lr-muted' });
    this.go = el('button', { class: 'lr-primary', text: 'Show what tuning changed', onclick: () => this.compute() });
    this.status = el('p', { class: 'lr-muted', role: 'status' });
    this.legend = el('p', { class: 'lr-muted' });
    const set = (answer, right) => host.setVerdict({ problem: this.at.problem, ...answer }, right);
    this.sides = { before: new FlipSide('before', set), after: new FlipSide('after', set) };
    this.beside = el('a', { hidden: true, text: 'Both side by side in Inspect' });
    this.both = el('div', { class: 'lr-flip-sides' }, this.sides.before.node, this.sides.after.node);
    this.node = el('section', { class: 'lr-reader lr-flip', hidden: true,
      'aria-label': 'A problem that changed sides' },
      el('div', { class: 'lr-card lr-reader-bar' }, this.back, this.name), this.error.node,
      el('div', { class: 'lr-card lr-flip-head' }, this.question, this.known, this.divergence, this.go, this.status,
        this.beside, this.legend), this.both);
  }
  close() { this.at = null; }

  async open(model, problem) {
    /** @type {FlipView['at']} */ const mine = this.at = { model, problem };
    this.error.show('');
    this.status.textContent = this.legend.textContent = '';
    this.name.textContent = 'Problem ' + problem;
    const answer = await this.host.flip(model, problem);
    if (mine !== this.at) return;
    for (const part of [this.both, this.known, this.divergence, this.question]) part.hidden = !!answer.error;
    this.go.hidden = this.beside.hidden = true;
    if (this.error.show(answer.error)) return;
    mine.answer = answer;
    this.show(answer);
    this.back.focus({ preventScroll: true });
    this.node.scrollIntoView({ block: 'start' });
    if (answer.before.trace && answer.after.trace) this.compute();
  }
  show(answer) {
    const { before, after } = answer, empty = !before.response.trim() || !after.response.trim();
    this.question.textContent = answer.question;
    this.known.replaceChildren(...(answer.answer === null ? ['No answer is known.']
      : ['Known answer: ', el('b', { text: answer.answer })]));
    this.divergence.textContent = whereTheyDiverge(answer);
    this.sides.before.showResponse(before);
    this.sides.after.showResponse(after);
    this.go.hidden = empty || !!(before.trace && after.trace);
    if (empty) this.status.textContent = 'An empty response has no tokens to look at.';
  }
  // Both models score both responses; the server saves the traces, so the next time they are there at once.
  async compute() {
    const mine = this.at, focused = document.activeElement === this.go;
    this.go.hidden = true;
    this.error.show('');
    if (focused) { this.status.setAttribute('tabindex', '-1'); this.status.focus(); }
    for (const side of Object.keys(this.sides)) {
      const answer = await this.scored(mine, side);
      if (mine !== this.at) return;
      if (this.error.show(answer.error)) { this.status.textContent = ''; this.go.hidden = false; return; }
      this.sides[side].showTrace(answer.record, mine.answer.shared);
    }
    this.status.textContent = '';
    const { before, after } = this.sides;
    this.beside.hidden = false;
    this.beside.setAttribute('href', '?trace=' + before.record.id + '&with=' + after.record.id + '&as=flip');
    this.legend.textContent = 'Colour: how far the two models are apart at each token of the response. The expert is ' +
      '“' + mine.answer.after.name + '”, the amateur “' + mine.answer.before.name +
      '”; the step where the responses diverge is selected.';
  }
  async scored(mine, side) {
    let answer = await this.host.score(mine.model, mine.problem, side);
    const { trace } = answer;
    while (mine === this.at && !answer.error && !answer.record) {
      answer = await this.host.scored(trace);
      if (!answer.status) continue;
      this.status.textContent = answer.status + ' …';
      await new Promise((done) => setTimeout(done, 300));
    }
    return answer;
  }
}

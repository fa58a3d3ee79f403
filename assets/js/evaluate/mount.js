// @ts-check
// The Evaluate tab on the Gradio page.
import { address } from '../shared/address.js';
import { el } from '../shared/dom.js';
import { pollWhileVisible } from '../shared/poll.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { RunTab } from '../shared/run_tab.js';
import { FlipView } from './flip.js';
import { Overview } from './overview.js';
import { isJudging } from './regrading.js';
import { EvaluationView } from './run.js';

const TAB = 'evaluate';

/** The list of evaluations, and below it the opened one or all results; or one flip alone. */
class EvaluateTab extends RunTab {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor(gradio) {
    super(TAB, gradio, {});
    /** @type {string | null} a fine-tuning run's id, which fills the form */ this.filling = null;
    /** @type {{ model: number, problem: string } | null} */ this.flip = null;
    /** @type {Record<string, string>} of what the page has */ this.marks = {};
    /** @type {Record<string, any>} */ this.parts = {};
    this.tuned = null;
    this.allResults = el('button', { text: 'All results', onclick: () => this.show(null, true) });
    this.list = createRunList({ title: 'Evaluations', running: 'Running', aside: this.allResults,
      facts: (e) => [e.facts], onOpen: (id) => this.show(id, true) });
    this.run = new EvaluationView({
      ...this.host(),
      listed: (...which) => this.ask('listed', ...which),
      open: (model, problem) => this.read(model, problem),
      responses: (...which) => this.ask('listed_responses', ...which),
      response: (...which) => this.ask('response', ...which),
      setVerdict: (...given) => this.change('set_verdict', ...given),
      regrade: () => this.change('regrade'), save: (kind) => this.save(kind) });
    this.reader = new FlipView({
      flip: (...which) => this.ask('flip', ...which),
      score: (...which) => this.ask('score', ...which),
      scored: (trace) => this.call('scored', trace),
      setVerdict: ({ model, problem, sample }, right) => this.change('set_verdict', model, problem, sample, right),
      close: () => this.closeFlip() });
    this.overview = new Overview((kind) => this.save(kind));
    // lr-has-run: a flip's viewers are inside, and no part of them is hidden
    this.fill(['lr-evaluate', 'lr-has-run'], [this.announce, this.list.node, this.empty, this.run.node,
      this.overview.node, this.reader.node]);
  }
  writeAddress() {
    address.set(TAB, { run: this.open || this.filling, model: this.flip?.model, problem: this.flip?.problem });
  }
  place() {
    for (const { node } of [this.list, this.run, this.overview]) node.classList.toggle('lr-away', !!this.flip);
    this.reader.node.hidden = !this.flip;
  }
  show(id, focus = false) {
    this.open = id;
    this.filling = this.flip = null;
    this.looked += 1;
    const { evaluations, overview, charts } = this.marks;
    this.marks = { evaluations, overview, charts };
    this.reader.close(); this.run.hide(); this.overview.hide();
    this.error.show('');
    this.place(); this.writeAddress();
    this.look(true).then(() => focus && this.open && this.run.focus());
  }
  /** The opened evaluation's table, or that of all results, as a file. */
  async save(kind) { this.error.show((await this.download(kind)).error); }
  read(model, problem) {
    this.flip = { model, problem };
    this.place(); this.writeAddress();
    this.reader.open(model, problem);
  }
  closeFlip() {
    /** @type {HTMLElement | null} */
    const row = this.run.node.querySelector('.lr-flip-row[data-key$="' + CSS.escape(this.flip.problem) + '"]');
    this.flip = null;
    this.reader.close(); this.place(); this.writeAddress(); this.look(true);
    (row || this.run).focus();
  }

  // The state of the list and of what is open; the server leaves out what the page has already.
  async look(all) {
    const answer = await this.lookAt(all, 'look', this.open || this.filling, !this.open, this.marks);
    if (!answer?.marks) return;
    Object.assign(this.marks, answer.marks);
    for (const part of ['evaluations', 'overview']) if (part in answer) this.parts[part] = answer[part];
    if (answer.fills && this.open) { this.fillForm(answer); return; }
    if (this.tuned !== answer.tuned) { this.tuned = answer.tuned; this.trigger('tuned', {}); }
    this.list.show(this.parts.evaluations, this.open);
    this.allResults.hidden = !this.open;
    this.empty.hidden = this.parts.evaluations.length > 0 || !!this.open;
    if (this.open) this.overview.hide();
    else if (this.parts.overview) this.overview.show(this.parts.overview, answer.charts);
    if (answer.open) this.showOpen(answer.open);
    else if (answer.error) this.run.hide();
    if (answer.figures) this.run.draw(answer.figures);
  }
  fillForm(answer) { // the address names a fine-tuning run that is to be evaluated
    this.filling = this.open;
    this.open = null;
    this.trigger('prefill', { run: this.filling });
    this.tuned = answer.tuned;
    this.look(true);
  }
  follow(params) {
    this.show(params.get('run'));
    const model = Number(params.get('model'));
    if (this.open && params.has('problem') && Number.isInteger(model)) this.read(model, params.get('problem'));
  }
}

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount(gradio) {
  const tab = new EvaluateTab(gradio);
  const isBusy = () => tab.run.data && (isActive(tab.run.data.state) || isJudging(tab.run.data.judged));
  pollWhileVisible(gradio.element, isBusy, () => { if (!tab.flip) tab.look(false); });
  return tab.followAddress((id) => { if (id && id !== tab.open) tab.show(id); });
}

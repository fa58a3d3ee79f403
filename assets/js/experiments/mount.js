// @ts-check
// The Improve tab on the Gradio page.
import { address } from '../shared/address.js';
import { el } from '../shared/dom.js';
import { pollWhileVisible } from '../shared/poll.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { RunTab } from '../shared/run_tab.js';
import { ExperimentView } from './run.js';

const TAB = 'improve';
const HINT = 'Select an experiment to see its stages and results.';

/** The list of experiments, and below it the opened one. */
class ImproveTab extends RunTab {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor(gradio) {
    super(TAB, gradio, { hint: HINT, wayOn: el('button', { class: 'lr-primary', text: 'Improve this expert',
      onclick: () => document.getElementById('lr-ex-go')?.click() }) });
    /** @type {Record<string, string>} of what the page has */ this.marks = {};
    /** @type {any[]} */ this.experiments = [];
    this.list = createRunList({ title: 'Experiments', running: 'Running', aside: null, facts: (e) => [e.facts],
      onOpen: (id) => this.show(id, true) });
    this.run = new ExperimentView(this.host());
    this.fill(['lr-experiments'], [this.announce, this.list.node, this.hint, this.empty, this.run.node]);
  }
  show(id, focus = false) {
    this.open = id;
    this.looked += 1;
    this.marks = { experiments: this.marks.experiments };
    this.run.hide();
    this.error.show('');
    address.set(TAB, { run: id, pair: null, expert: null, amateur: null });
    this.look(true).then(() => focus && this.open && this.run.focus());
  }

  // The state of the list and of what is open; the server leaves out what the page has already.
  async look(all) {
    const answer = await this.lookAt(all, 'look', this.open, this.marks);
    if (!answer?.marks) return;
    Object.assign(this.marks, answer.marks);
    if (answer.experiments) this.experiments = answer.experiments;
    this.list.show(this.experiments, this.open);
    this.empty.hidden = this.experiments.length > 0 || !!this.open;
    this.hint.hidden = !this.experiments.length || !!this.open;
    if (answer.open) {
      this.showOpen(answer.open);
      this.run.draw(answer.figure, answer.curve);
    } else if (answer.error) this.run.hide();
  }
  follow(params) {
    const pair = Object.fromEntries(['pair', 'expert', 'amateur'].map((name) => [name, params.get(name)]));
    this.show(params.get('run'));
    if (pair.pair || pair.expert) this.trigger('prefill', pair);
  }
}

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount(gradio) {
  const tab = new ImproveTab(gradio);
  pollWhileVisible(gradio.element, () => tab.run.data && isActive(tab.run.data.state), () => tab.look(false));
  return tab.followAddress((id) => { if (id && id !== tab.open) tab.show(id); });
}

// @ts-check
// The Improve tab on the Gradio page.
import { address } from '../shared/address.js';
import { createErrorBox, downloadFrom, el } from '../shared/dom.js';
import { createCalls, followAddress, lookAt, pollWhileVisible } from '../shared/poll.js';
import { createRunList, isActive, stateWord } from '../shared/run_list.js';
import { ExperimentView } from './run.js';

const TAB = 'improve';
const HINT = 'Select an experiment to see its stages and results.';

/** The list of experiments, and below it the opened one. */
class ImproveTab {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor({ element, props, trigger, server }) {
    this.trigger = trigger;
    this.call = createCalls(server);
    /** @type {string | null} the opened experiment's id */ this.open = null;
    /** @type {Record<string, string>} of what the page has */ this.marks = {};
    /** @type {any[]} */ this.experiments = [];
    this.looked = 0;
    this.busy = false;
    this.list = createRunList({ title: 'Experiments', running: 'Running', aside: null, facts: (e) => [e.facts],
      onOpen: (id) => this.show(id, true) });
    this.run = new ExperimentView({ act: (name) => this.change('act', name), remove: () => this.remove(),
      rename: (name) => this.change('rename', name),
      download: async (kind) => {
        const answer = await this.call('prepare', this.open, kind);
        if (!answer.error) downloadFrom(answer.url, answer.name);
        return answer;
      } });
    this.empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }),
      ...props.intro.sentences.map((text) => el('p', { text })),
      el('button', { class: 'lr-primary', text: 'Improve this expert',
        onclick: () => document.getElementById('lr-ex-go')?.click() }));
    this.hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: HINT });
    this.error = createErrorBox();
    this.announce = el('div', { class: 'lr-unseen', role: 'status' });
    const root = element.querySelector('.lr-root');
    root.classList.add('lr', 'lr-data', 'lr-experiments');
    root.replaceChildren(this.error.node, this.announce, this.list.node, this.hint, this.empty, this.run.node);
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
  async change(name, ...args) {
    const answer = await this.call(name, this.open, ...args);
    this.look(true);
    return answer;
  }
  async remove() {
    const answer = await this.call('discard', this.open);
    if (!answer.error) { this.show(null); document.getElementById('lr-tab-improve-button')?.focus(); }
    return answer;
  }

  // The state of the list and of what is open; the server leaves out what the page has already.
  async look(all) {
    const answer = await lookAt(this, all, 'look', this.open, this.marks);
    if (!answer?.marks) return;
    Object.assign(this.marks, answer.marks);
    if (answer.experiments) this.experiments = answer.experiments;
    this.list.show(this.experiments, this.open);
    this.empty.hidden = this.experiments.length > 0 || !!this.open;
    this.hint.hidden = !this.experiments.length || !!this.open;
    if (answer.open) this.showOpen(answer.open);
    else if (answer.error) this.run.hide();
    if (answer.open) this.run.draw(answer.figure, answer.curve);
  }
  showOpen(now) {
    const before = this.run.data;
    this.run.show(now);
    if (before && before.state !== now.state) {
      this.announce.textContent = now.name + ': ' + stateWord(now.state, 'Running').toLowerCase();
    }
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
  return followAddress(TAB, tab, gradio, (id) => { if (id && id !== tab.open) tab.show(id); });
}

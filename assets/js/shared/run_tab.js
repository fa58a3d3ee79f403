// @ts-check
// RunTab, the base of the tabs that list runs of one kind and open one of them.
import { address } from './address.js';
import { createErrorBox, downloadFrom, el } from './dom.js';
import { createCalls, scrollToResult } from './poll.js';
import { stateWord } from './run_list.js';

export class RunTab {
  /**
   * @param {string} name of the tab in the address
   * @param {import('./start.js').Gradio} gradio
   * @param {{ hint?: string, wayOn?: Node }} texts the sentence while no run is opened, and what an empty tab offers
   */
  constructor(name, gradio, { hint = '', wayOn = null }) {
    const { props, server, trigger } = gradio;
    this.name = name;
    this.gradio = gradio;
    this.trigger = trigger;
    this.call = createCalls(server);
    /** @type {string | null} the id of the opened run */ this.open = null;
    this.looked = 0; // how often something was changed: the answers to earlier looks count no more
    this.busy = false;
    /** @type {any} the view of the opened run */ this.run = null;
    this.error = createErrorBox();
    this.hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: hint });
    this.empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: props.intro.title }),
      ...props.intro.sentences.map((text) => el('p', { text })), wayOn);
    this.announce = el('div', { class: 'lr-unseen', role: 'status' });
  }
  /** Fills the component. @param {string[]} classes @param {Node[]} nodes */
  fill(classes, nodes) {
    const root = this.gradio.element.querySelector('.lr-root');
    root.classList.add('lr', 'lr-data', ...classes);
    root.replaceChildren(this.error.node, ...nodes);
  }
  /** A call on the opened run. */
  ask(name, ...args) { return this.call(name, this.open, ...args); }
  /** A call that changes the opened run, and a look at what came of it. */
  async change(name, ...args) {
    const answer = await this.ask(name, ...args);
    this.look(true);
    return answer;
  }
  async download(...args) {
    const answer = await this.ask('prepare', ...args);
    if (!answer.error) downloadFrom(answer.url, answer.name);
    return answer;
  }
  async remove() {
    const answer = await this.ask('discard');
    if (!answer.error) { this.show(null); this.focus(); }
    return answer;
  }
  focus() { document.getElementById('lr-tab-' + this.name + '-button').focus(); }
  /** What every view of a run can do. */
  host() {
    return { act: (name) => this.change('act', name), rename: (name) => this.change('rename', name),
      remove: () => this.remove(), download: (...args) => this.download(...args) };
  }
  /** The server's answer on what the tab shows; null where another look is on its way whose answer counts. */
  async lookAt(all, name, ...args) {
    if (this.busy && !all) return null;
    this.busy = true;
    const mine = (this.looked += all ? 1 : 0), answer = await this.call(name, ...args);
    this.busy = false;
    if (mine !== this.looked) return null;
    this.error.show(answer.error);
    return answer;
  }
  /**
   * Follows the page's address. Returns what is to be called when the component's value names a run to open.
   * @param {(id: string) => void} open
   */
  followAddress(open) {
    const { element, props } = this.gradio;
    address.watch(this.name, (params) => this.follow(params));
    this.follow(address.get(this.name));
    return () => {
      if (!props.value) return;
      open(JSON.parse(props.value).open);
      scrollToResult(element);
    };
  }
  /** Shows the opened run in this.run, and tells screen readers of its new state. */
  showOpen(now) {
    const before = this.run.data;
    this.run.show(now);
    if (before && before.state !== now.state) {
      this.announce.textContent = now.name + ': ' + stateWord(now.state, 'Running').toLowerCase();
    }
  }
  /** Opens a run; null: none. @param {string | null} _id @param {any} [_how] */
  show(_id, _how) {}
  /** Asks for the state of the list and of what is open. @param {boolean} _all whether something was changed */
  async look(_all) {}
  /** @param {URLSearchParams} _params of the tab in the address */
  follow(_params) {}
}

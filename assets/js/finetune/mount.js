// @ts-check
// The Fine-tune tab on the Gradio page.
import { address } from '../shared/address.js';
import { el, linkTo, setText } from '../shared/dom.js';
import { formatTime } from '../shared/format.js';
import { pollWhileVisible } from '../shared/poll.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { RunTab } from '../shared/run_tab.js';
import { Comparison } from './compare.js';
import { Tuning } from './run.js';

const TAB = 'finetune';
const MOST_COMPARED = 6; // as many lines as can be told apart
const FULL = `At most ${MOST_COMPARED} can be compared`;
const HINT = 'Select a run to see its curves, or tick some to compare them.';

class FinetuneTab extends RunTab {
  constructor(gradio) {
    super(TAB, gradio,
      { hint: HINT, wayOn: linkTo({ tab: 'datasets' }, 'Go to Datasets', { class: 'lr-job-made' }) });
    this.compared = [];
    this.seen = {}; // versions of what the page has
    this.active = this.several = false;
    this.renewed = this.wanted = null; // the form's datasets as they are known, and the one that a link asks for
    this.viewed = null; // the one that was looked at on the Datasets tab, when the form was renewed
    this.tick = el('span', { class: 'lr-muted', role: 'status' });
    this.list = createRunList({ title: 'Runs', label: 'Fine-tuning runs', running: 'Training', aside: this.tick,
      onOpen: (id) => this.show(id), facts: (run) => [run.facts],
      before: (run) => this.several && this.checkbox(run) });
    this.comparison = new Comparison(() => {
      this.compare([]);
      this.list.node.querySelector('input')?.focus();
    });
    this.run = new Tuning(this.host());
    this.fill(['lr-tuning'], [this.list.node, this.hint, this.empty, this.comparison.node, this.run.node]);
  }
  /** What the view of a run can do. */
  host() {
    return { ...super.host(), merge: () => this.change('merge'), use: (which) => this.change('use', which),
      savePreset: (name) => this.change('save_preset', name),
      push: (kind, form) => this.ask('push', kind, form), pushed: () => this.ask('pushed') };
  }
  async remove() {
    const { open } = this, answer = await super.remove();
    if (!answer.error && this.compared.includes(open)) this.compare(this.compared.filter((id) => id !== open));
    return answer;
  }
  focus() {
    const first = this.list.node.querySelector('button');
    if (first) first.focus(); else super.focus();
  }

  checkbox({ id, name, created }) {
    const { compared } = this, checked = compared.includes(id), full = !checked && compared.length >= MOST_COMPARED;
    const change = () => this.compare(box.checked ? [...this.compared, id] : this.compared.filter((one) => one !== id));
    const box = el('input', { type: 'checkbox', 'data-id': id, 'data-key': 'compare-' + id, disabled: full,
      'aria-label': 'Compare ' + name + ', ' + formatTime(created), onchange: change, title: full ? FULL : 'Compare' });
    box.checked = checked;
    return el('label', { class: 'lr-tick-box' }, box);
  }
  showList(runs) {
    const n = this.compared.length;
    this.several = runs.length > 1;
    this.list.show(runs, this.open, this.compared);
    setText(this.tick, !this.several ? '' : n === 1 ? 'Tick another one to compare' : n ? n + ' compared'
      : 'Tick two or more to compare');
  }

  writeAddress() {
    const { open: run, compared } = this;
    address.set(TAB, { run, compare: compared.length ? compared.join() : null, dataset: null, alpha: null, beta: null,
      selector: null, tau: null, box: null, cap: null });
  }
  show(id) {
    if (id !== this.open) this.run.begin();
    this.open = id;
    delete this.seen.open;
    this.writeAddress();
    this.look(true);
  }
  compare(ids) {
    this.compared = ids.slice(0, MOST_COMPARED);
    delete this.seen.compared;
    if (this.compared.length < 2) this.comparison.hide();
    this.writeAddress();
    this.look(true);
  }

  /** The state of the list and of what is open; figures come again only when they changed. */
  async look(all) {
    const { gradio: { element }, open, compared, seen, run, comparison } = this;
    if (document.hidden || !element.getClientRects().length) return; // it asks when it is seen
    const answer = await this.lookAt(all, 'overview', open, compared.length > 1 ? compared : [],
      { ...seen, figures: run.curves.marks, comparison: comparison.curves.marks });
    if (!answer?.runs) return;
    this.active = answer.runs.some(({ state }) => isActive(state)) || !!answer.open?.merge?.busy;
    this.showList(answer.runs);
    this.empty.hidden = answer.runs.length > 0 || !!answer.error;
    this.hint.hidden = !answer.runs.length || !!open || compared.length > 1;
    if (answer.compared && !answer.compared.unchanged) this.showCompared(answer.compared);
    if (answer.open?.unchanged && run.data) run.showState(answer.open);
    else if (answer.open) {
      seen.open = answer.open.version;
      run.show(answer.open);
    } else if (open && answer.error) run.begin();
    const viewed = address.get('datasets').get('dataset'), other = viewed !== this.viewed ? viewed : null;
    if (this.renewed === answer.renew && !this.wanted && !other) return;
    this.renewed = answer.renew;
    this.viewed = viewed;
    this.trigger('renew', this.wanted || (other ? { viewed: other } : {}));
    this.wanted = null;
  }
  showCompared(found) {
    this.comparison.show(found);
    if (found.missing.length) {
      this.compared = this.compared.filter((id) => !found.missing.includes(id));
      this.writeAddress();
    } else this.seen.compared = found.version;
  }

  follow(params) {
    // the selection made in the explorer with the dataset, or in a preview, comes along
    const selected = ['dataset', 'alpha', 'beta', 'selector', 'tau', 'box', 'cap'].filter((name) => params.get(name));
    if (selected.length) this.wanted = Object.fromEntries(selected.map((name) => [name, params.get(name)]));
    this.compared = (params.get('compare') || '').split(',').filter(Boolean).slice(0, MOST_COMPARED);
    if (this.compared.length < 2) this.comparison.hide();
    this.seen = {};
    this.show(params.get('run') || null);
  }
}

export function mount(gradio) {
  const tab = new FinetuneTab(gradio);
  pollWhileVisible(gradio.element, () => tab.active, () => tab.look(false));
  window.addEventListener('lr-tab', (/** @type {CustomEvent} */ event) => {
    if (event.detail === TAB) requestAnimationFrame(() => tab.look(true));
  });
  return tab.followAddress((id) => tab.show(id));
}

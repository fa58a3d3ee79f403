// @ts-check
// The Datasets tab on the Gradio page.
import { address } from '../shared/address.js';
import { el } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { clamp, formatBytes, formatCount, plural } from '../shared/format.js';
import { pollWhileVisible } from '../shared/poll.js';
import { createPull } from '../shared/push_form.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { RunTab } from '../shared/run_tab.js';
import { Explorer } from './explorer.js';
import { Reader } from './trajectory.js';

const DEFAULTS = { alpha: PAPER.alpha, beta: PAPER.beta, selector: 'kl', tau: null, box: null, cap: null };
const TAB = 'datasets';
const HINT = 'Build or select a dataset to explore it.';

class DatasetsTab extends RunTab {
  /** @param {import('../shared/start.js').Gradio} gradio */
  constructor(gradio) {
    super(TAB, gradio, { wayOn: el('button', { class: 'lr-primary', text: 'Build dataset',
      onclick: () => document.getElementById('lr-ds-build')?.click() }) });
    this.wanted = DEFAULTS; // the selection that the next opened dataset begins with: a preview's link names another
    this.reading = null; // the trajectory: { problem, sample, step }
    this.asked = 0; // requests for steps so far, so that only the answer to the last one counts
    this.seen = ''; // the version of the dataset that is shown
    this.count = el('span', { class: 'lr-muted' });
    this.list = createRunList({ title: 'Datasets', aside: this.count, onOpen: (id) => this.show(id),
      facts: (d) => [d.samples === null ? null : plural(d.samples, 'sample'), formatBytes(d.bytes)] });
    this.explorer = new Explorer(this.explorerHost());
    this.reader = new Reader(this.readerHost());
    this.pull = createPull({ pull: (repo, token) => this.call('pull', repo, token),
      pulled: (job) => this.call('pulled', job), done: (run) => this.show(run) });
    // lr-has-run: the reader's viewer is inside, and no part of it is hidden
    this.fill(['lr-has-run'], [this.list.node, this.hint, this.empty, this.explorer.node, this.reader.node,
      this.pull.node]);
    const busy = () => this.explorer.data && isActive(this.explorer.data.state);
    pollWhileVisible(gradio.element, busy, () => this.look(false));
  }
  explorerHost() {
    return {
      ...this.host(),
      rows: async (query) => {
        const mine = ++this.asked, answer = await this.ask('rows', query);
        return mine === this.asked ? answer : null;
      },
      open: (row) => this.read(row.problem, row.sample, row.step),
      mark: (row, kind) => this.ask('mark', row.problem, row.sample, row.step, kind),
      download: (format, { alpha, beta, selector, ...more }) => this.download(format, alpha, beta, selector, more),
      amateurs: (alpha, beta, seen) => this.ask('amateurs', alpha, beta, seen),
      addAmateur: (...given) => this.change('add', ...given),
      push: (kind, form) => this.ask('push', kind, form), pushed: () => this.ask('pushed'),
      refresh: () => this.look(true),
      address: () => this.writeAddress(),
    };
  }
  readerHost() {
    return {
      load: (...which) => this.ask('trajectory', ...which),
      file: (...where) => this.ask('trace_file', ...where),
      mark: (...given) => this.ask('mark', ...given),
      close: () => {
        this.reading = null;
        this.place(); this.writeAddress(); this.look(true); this.explorer.list(); this.explorer.focus();
      },
      moved: (step, { alpha, beta, cap }) => {
        if (!this.reading) return;
        this.reading.step = step;
        Object.assign(this.explorer.selection, { alpha, beta, cap });
        this.writeAddress();
      },
    };
  }

  writeAddress() {
    const { open, reading, explorer: { selection } } = this;
    const unusual = Object.entries(DEFAULTS).map(([name, usual]) =>
      [name, open && selection[name] !== usual ? selection[name] : null]);
    address.set(TAB, { dataset: open, problem: reading && reading.problem, sample: reading && reading.sample,
      step: reading && reading.step >= 0 ? reading.step : null, ...Object.fromEntries(unusual) });
  }
  /** The list and the dataset, or one of its trajectories. */
  place() {
    const { list, explorer, hint, pull, reader, reading } = this;
    for (const node of [list.node, explorer.node, hint, pull.node]) node.classList.toggle('lr-away', !!reading);
    reader.node.hidden = !reading;
  }
  show(id, selection = this.wanted) {
    this.open = id; this.reading = null; this.seen = ''; this.looked += 1;
    this.explorer.begin(selection);
    this.place(); this.writeAddress();
    this.error.show('');
    this.look(true);
  }
  read(problem, sample, step) {
    this.reading = { problem, sample, step };
    this.place(); this.writeAddress();
    this.reader.open(problem, sample, step, this.explorer.selection);
  }

  /** The state of the list and of the open dataset, whose numbers come again only when they changed. */
  async look(all) {
    const { alpha, beta, selector, ...more } = this.explorer.selection;
    const answer = await this.lookAt(all, 'overview', this.open, alpha, beta, selector, all ? '' : this.seen, more);
    if (answer?.datasets) this.drawAnswer(answer);
  }
  drawAnswer({ datasets, open: dataset, error }) {
    const { explorer, open } = this, there = datasets.length;
    this.list.show(datasets, open);
    this.count.textContent = there > 1 ? formatCount(there) : '';
    this.empty.hidden = there > 0 || !!error;
    this.hint.hidden = (!there && this.wanted === DEFAULTS) || !!open;
    if (!dataset) {
      if (open && error) explorer.node.hidden = true;
    } else if (dataset.unchanged) {
      explorer.showState(dataset);
      if (isActive(dataset.state) && dataset.steps) explorer.amateurs.look(); // previews come in beside the dataset
    } else {
      const grew = this.seen && !this.reading && explorer.data;
      this.seen = dataset.version;
      explorer.show(dataset);
      if (grew && !(explorer.inUse && dataset.state === 'running')) explorer.list(); // not under the user's hands
    }
  }
  follow(params) {
    const numberOf = (name) => {
      const x = Number(params.get(name));
      return params.has(name) && Number.isFinite(x) ? x : null;
    };
    const selection = { alpha: clamp(numberOf('alpha') ?? PAPER.alpha, PAPER.alphaFloor, 1),
      beta: clamp(numberOf('beta') ?? PAPER.beta, 0, 3), selector: params.get('selector') || 'kl',
      tau: numberOf('tau'), box: params.get('box'), cap: numberOf('cap') };
    this.wanted = !params.get('dataset') && (params.has('alpha') || params.has('beta')) ? selection : DEFAULTS;
    this.hint.textContent = this.wanted === DEFAULTS ? HINT
      : HINT + ` It begins with α ${selection.alpha} and β ${selection.beta}.`;
    this.show(params.get('dataset'), selection);
    if (this.open && params.has('problem')) {
      this.read(params.get('problem'), numberOf('sample') ?? 0, numberOf('step') ?? -1);
    }
  }
}

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount(gradio) {
  const tab = new DatasetsTab(gradio);
  return tab.followAddress((id) => { if (id && id !== tab.open) tab.show(id); else tab.look(true); });
}

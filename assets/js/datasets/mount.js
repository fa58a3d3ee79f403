// @ts-check
// The Datasets tab on the Gradio page.
import { address } from '../shared/address.js';
import { createErrorBox, downloadFrom, el } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { clamp, formatBytes, formatCount } from '../shared/format.js';
import { createCalls, followAddress, lookAt, pollWhileVisible } from '../shared/poll.js';
import { createPull } from '../shared/push_form.js';
import { createRunList, isActive } from '../shared/run_list.js';
import { Explorer } from './explorer.js';
import { Reader } from './trajectory.js';

const DEFAULTS = { alpha: PAPER.alpha, beta: PAPER.beta, selector: 'kl', tau: null, box: null, cap: null };
const TAB = 'datasets';
const HINT = 'Build or select a dataset to explore it.';

class Tab {
  constructor(element, intro, call) {
    this.call = call;
    this.open = null; // the id of the dataset
    this.wanted = DEFAULTS; // the selection that the next opened dataset begins with: a preview's link names another
    this.reading = null; // the trajectory: { problem, sample, step }
    this.asked = this.looked = 0; // requests so far, so that only the answer to the last one counts
    this.seen = ''; // the version of the dataset that is shown
    this.busy = false;
    this.count = el('span', { class: 'lr-muted' });
    this.list = createRunList({ title: 'Datasets', aside: this.count, onOpen: (id) => this.show(id),
      facts: (d) => [d.samples === null ? null : formatCount(d.samples) + ' samples', formatBytes(d.bytes)] });
    this.explorer = new Explorer(this.explorerHost());
    this.reader = new Reader(this.readerHost());
    this.pull = createPull({ pull: (repo, token) => call('pull', repo, token), pulled: (job) => call('pulled', job),
      done: (run) => { this.show(run); this.look(true); } });
    this.hint = el('p', { class: 'lr-muted lr-hint', hidden: true, text: HINT });
    this.error = createErrorBox();
    this.empty = el('section', { class: 'lr-card lr-empty', hidden: true }, el('h2', { text: intro.title }),
      ...intro.sentences.map((text) => el('p', { text })),
      el('button', { class: 'lr-primary', text: 'Build dataset',
        onclick: () => document.getElementById('lr-ds-build')?.click() }));
    const root = element.querySelector('.lr-root');
    root.classList.add('lr', 'lr-data', 'lr-has-run'); // the reader's viewer is inside: no part of it is to be hidden
    root.replaceChildren(this.error.node, this.list.node, this.hint, this.empty, this.explorer.node, this.reader.node,
      this.pull.node);
    pollWhileVisible(element, () => this.explorer.data && isActive(this.explorer.data.state), () => this.look(false));
  }
  explorerHost() {
    const ask = (name, ...args) => this.call(name, this.open, ...args);
    return {
      rows: async (query) => {
        const mine = ++this.asked, answer = await ask('rows', query);
        return mine === this.asked ? answer : null;
      },
      open: (row) => this.read(row.problem, row.sample, row.step),
      mark: (row, kind) => ask('mark', row.problem, row.sample, row.step, kind),
      act: async (name) => { const answer = await ask('act', name); this.look(true); return answer; },
      rename: async (name) => { const answer = await ask('rename', name); this.look(true); return answer; },
      remove: async () => {
        const answer = await ask('discard');
        if (!answer.error) { this.show(null); this.look(true); }
        return answer;
      },
      download: async (format, { alpha, beta, selector, ...more }) => {
        const answer = await ask('prepare', format, alpha, beta, selector, more);
        if (!answer.error) downloadFrom(answer.url, answer.name);
        return answer;
      },
      amateurs: (alpha, beta, seen) => ask('amateurs', alpha, beta, seen),
      addAmateur: async (...given) => { const answer = await ask('add', ...given); this.look(true); return answer; },
      push: (kind, form) => ask('push', kind, form), pushed: () => ask('pushed'),
      refresh: () => this.look(true),
      address: () => this.writeAddress(),
    };
  }
  readerHost() {
    const ask = (name, ...args) => this.call(name, this.open, ...args);
    return {
      load: (problem, sample, step) => ask('trajectory', problem, sample, step),
      file: (...where) => ask('trace_file', ...where),
      mark: (problem, sample, step, kind) => ask('mark', problem, sample, step, kind),
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
    if (id) this.look(true);
  }
  read(problem, sample, step) {
    this.reading = { problem, sample, step };
    this.place(); this.writeAddress();
    this.reader.open(problem, sample, step, this.explorer.selection);
  }

  /** The state of the list and of the open dataset, whose numbers come again only when they changed. */
  async look(all) {
    const { alpha, beta, selector, ...more } = this.explorer.selection;
    const answer = await lookAt(this, all, 'overview', this.open, alpha, beta, selector, all ? '' : this.seen, more);
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
    if (!this.open) this.look(true);
    else if (params.has('problem')) {
      this.read(params.get('problem'), numberOf('sample') ?? 0, numberOf('step') ?? -1);
    }
  }
}

/** @param {import('../shared/start.js').Gradio} gradio */
export function mount(gradio) {
  const tab = new Tab(gradio.element, gradio.props.intro, createCalls(gradio.server));
  return followAddress(TAB, tab, gradio, (id) => { if (id && id !== tab.open) tab.show(id); else tab.look(true); });
}

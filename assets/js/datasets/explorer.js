// @ts-check
// One dataset: its facts, charts, selection, quality and steps. `host` has the server's calls; nothing here knows
// Gradio.
import { el, labelled, optionsOf } from '../shared/dom.js';
import { PAPER } from '../shared/engine_data.js';
import { formatBytes, formatCount, formatPercent, plural } from '../shared/format.js';
import { createPush } from '../shared/push_form.js';
import { isActive } from '../shared/run_list.js';
import { RunHead } from '../shared/run_view.js';
import { AmateursPanel } from './amateurs.js';
import { CategoryChart, Histogram, Plane, ThresholdChart } from './charts.js';
import { StepTable } from './step_table.js';

const TONES = { good: ['✓', 'OK'], warn: ['!', 'Warning'], bad: ['✕', 'Problem'] };
const DOWNLOADS = [
  ['paper', 'Samples (JSONL)', 'The samples of this selection, in the format of the paper’s released samples'],
  ['parquet', 'Samples (Parquet)', 'The same samples as one table, with the token ids of the prefix'],
  ['steps', 'Steps (CSV)', 'Every step with its measures, also the teaching signal at this α'],
  ['raw', 'Trajectories (Parquet)', 'Everything that was sampled: every step, independent of α and β'],
];
const DATASET_ACTIONS = {
  keep: ['Stop and keep', 'End now; the dataset holds what was sampled so far'],
  cancel: ['Cancel', 'Stop at once; what was sampled stays until it is deleted'],
  resume: ['Resume', 'Resume where it stopped; nothing is sampled twice'],
};
const PAUSE = 200; // milliseconds after the last movement of a slider until the server counts

const numberIn = ({ value }) => (value.trim() && Number.isFinite(Number(value)) ? Number(value) : null);
const panel = (name, ...children) => el('figure', { class: 'lr-chart', 'aria-label': name },
  el('figcaption', {}, el('b', { text: name })), ...children);

/** The charts and panels of a dataset. @param {Explorer} explorer */
function createParts(explorer) {
  const moved = (name) => (value) => explorer.move({ [name]: value });
  const histogram = (key, measure, name) => new Histogram({ measure, name }, (range) => explorer.bound(key, range));
  const parts = { histogram: histogram('kl', 'KL', 'steps-by-kl'),
    teaching: histogram('teaching', 'teaching signal', 'steps-by-teaching-signal'),
    beta: new ThresholdChart({ title: 'Selected steps by β', says: 'click to set β',
      name: 'selected-by-beta', label: 'Beta, the KL threshold in nats', symbol: 'β', shape: 'beta',
      min: 0, max: 3, onInput: moved('beta') }),
    alpha: new ThresholdChart({ title: 'One-token targets by α', says: 'click to set α',
      name: 'one-token-by-alpha', label: 'Alpha, the plausibility threshold', symbol: 'α', shape: 'alpha',
      min: PAPER.alphaFloor, max: 1, onInput: moved('alpha') }),
    plane: new Plane((box) => explorer.look(box), (box) => explorer.train(box)),
    categories: new CategoryChart((kind) => explorer.steps.pick(kind)),
    picker: el('select', { 'aria-label': 'Selector' }),
    tau: el('input', { type: 'number', min: '0', step: '0.01', placeholder: 'none',
      'aria-label': 'Tau, the lowest teaching signal in nats' }),
    cap: el('input', { type: 'number', min: '0', step: '0.1', placeholder: 'none',
      'aria-label': 'Cap on the log ratio of the targets, in nats' }), selectorSays: el('p', { class: 'lr-muted' }),
    selection: el('p', { class: 'lr-chosen' }), quality: el('ul', { class: 'lr-quality' }) };
  parts.picker.addEventListener('change', () => explorer.move({ selector: parts.picker.value }, 0));
  parts.tau.addEventListener('input', () => explorer.move({ tau: numberIn(parts.tau) }));
  const tau = labelled('τ', parts.tau, { title: 'Only steps that teach more than τ nats' });
  parts.cap.addEventListener('input', () => explorer.move({ cap: numberIn(parts.cap) || null }));
  const cap = labelled('Cap of the target', parts.cap, { title: 'Log ratios above it count as the cap: what the ' +
    'amateur all but rules out does not take the whole target' });
  const node = el('div', { class: 'lr-charts' }, parts.histogram.chart.node, parts.teaching.chart.node,
    parts.plane.chart.node, parts.beta.chart.node, parts.alpha.chart.node, parts.categories.chart.node,
    panel('Training samples', labelled('Selector', parts.picker), tau,
      cap, parts.selectorSays, parts.selection), panel('Quality', parts.quality));
  return { ...parts, node };
}
/** What stands above the charts. */
class Head extends RunHead {
  /** @param {any} host @param {() => any} data what is known of the dataset */
  constructor(host, data) {
    super(host, { noun: 'dataset', counts: 'Problems sampled', actions: DATASET_ACTIONS,
      deletes: () => `Delete “${data().name}”, ${formatBytes(data().bytes)}? This cannot be undone.` });
    this.links = el('div', { class: 'lr-buttons', role: 'group', 'aria-label': 'Downloads' });
    this.tune = el('a', { class: 'lr-job-made', href: '?tab=finetune', text: 'Fine-tune on it',
      title: 'Train the expert on these steps, with the settings for this pair' });
    this.push = createPush({ push: host.push, pushed: host.pushed });
    this.node = this.layOut({ buttons: [this.tune],
      parts: [this.progress.node, this.facts, this.links, this.push.node] });
  }
}

export class Explorer {
  constructor(host) {
    this.host = host;
    this.data = null;
    this.ranges = {}; // of measures, whose steps are listed: [lowest, highest] each
    this.selection = { alpha: PAPER.alpha, beta: PAPER.beta, selector: 'kl', tau: null, box: null, cap: null };
    this.timer = 0;
    this.steps = new StepTable({ onFilter: () => this.list(), onOpen: host.open,
      onMark: (row, kind) => this.mark(row, kind) });
    this.head = new Head(host, () => this.data);
    this.parts = createParts(this);
    this.amateurs = new AmateursPanel({ add: host.addAmateur,
      look: (seen) => host.amateurs(this.selection.alpha, this.selection.beta, seen) });
    this.inside = el('div', { class: 'lr-inside' }, el('div', { class: 'lr-card' }, this.parts.node),
      this.amateurs.node, this.steps.node);
    this.node = el('section', { class: 'lr-run-view', 'aria-label': 'The dataset', hidden: true }, this.head.node,
      this.inside);
  }
  get inUse() { return this.steps.node.matches(':hover, :focus-within'); }
  focus() { this.head.title.focus({ preventScroll: true }); }

  async mark(row, next) {
    const answer = await this.host.mark(row, next);
    if (!answer.error) { row.mark = next; this.move({}, 400); }
    return this.head.error.show(answer.error);
  }
  /** Another selection. The browser shows at once what it can; what the server counts comes after the last movement. */
  move(selection, wait = PAUSE) {
    Object.assign(this.selection, selection);
    this.showSelection();
    this.host.address();
    clearTimeout(this.timer);
    this.timer = setTimeout(this.host.refresh, wait);
  }
  /** Only the steps in a range of a measure are listed; null: in any. */
  bound(measure, range) {
    this.ranges = { ...this.ranges, [measure]: range || [null, null] };
    if (measure === 'kl' && this.parts.plane.box) { // its bounds of KL would be the histogram's
      this.parts.plane.reset();
      this.parts.plane.mark(this.selection.box);
      this.ranges.expert_entropy = [null, null];
    }
    this.steps.change({});
  }
  /** Only the steps in a box of the expert's entropy and KL are listed; null: all. */
  look(box) {
    const range = (low, high) => (box ? [low || null, high === Infinity ? null : high] : [null, null]);
    this.parts.histogram.reset();
    this.parts.histogram.place();
    this.ranges = { ...this.ranges, expert_entropy: range(box?.[0], box?.[1]), kl: range(box?.[2], box?.[3]) };
    this.steps.change({});
  }
  /** Only the steps in a box are training samples, whatever β is; null: as the selector says. */
  train(box) {
    const text = box && box.map((bound) => (bound === Infinity ? 'inf' : String(bound))).join(':');
    this.move({ box: text, selector: box ? 'all' : 'kl' }, 0);
  }
  async list() {
    if (!this.data || !this.data.steps) return;
    const { steps, parts, ranges } = this, { query } = steps;
    parts.categories.pick(query.kind);
    steps.busy(true);
    const answer = await this.host.rows({ ...query, ranges, ...this.selection });
    if (!answer) return; // a later request is on its way
    steps.busy(false);
    if (!this.head.error.show(answer.error)) steps.show(answer);
  }

  /** α and β in the charts, and what they come to. */
  showSelection() {
    const { data, parts, head } = this, { alpha, beta, selector, tau, box, cap } = this.selection;
    if (!data?.steps) return;
    parts.plane.mark(box);
    const { kept: { data: [kept] }, one_token: ones } = data.figures;
    const at = kept.x.findIndex((x) => Math.abs(x - beta) < 1e-6), above = at < 0 ? data.above : kept.customdata[at][0];
    parts.histogram.mark(beta);
    parts.beta.mark(beta, [formatCount(above) + ' of ' + plural(data.steps, 'step'),
      ', ' + formatPercent(above / data.steps)]);
    if (ones) {
      const [{ x, y, customdata }] = ones.data;
      const near = x.reduce((best, a, i) => (Math.abs(a - alpha) < Math.abs(x[best] - alpha) ? i : best), 0);
      parts.alpha.mark(alpha, [customdata[near][0].toFixed(1) + ' tokens per target',
        ', ' + formatPercent(y[near]) + ' hold a single one']);
    }
    head.tune.href = '?' + new URLSearchParams({ tab: 'finetune', dataset: data.id, alpha: String(alpha),
      beta: String(+beta.toFixed(4)), selector, // with the selection made here
      ...(selector === 'teaching' && tau !== null ? { tau: String(tau) } : {}), ...(box ? { box } : {}),
      ...(cap === null ? {} : { cap: String(cap) }) });
  }
  drawCharts() {
    const { histogram, teaching, plane, kept, one_token: ones, categories } = this.data.figures, { parts } = this;
    for (const figure of Object.values(this.data.figures)) {
      figure.layout.uirevision = this.data.id; // what was zoomed stays zoomed while a dataset grows
    }
    parts.alpha.chart.node.hidden = !ones;
    parts.histogram.draw(histogram, this.selection.beta);
    parts.teaching.chart.node.hidden = !teaching;
    if (teaching) parts.teaching.draw(teaching);
    parts.plane.chart.node.hidden = !plane;
    if (plane) parts.plane.draw(plane);
    parts.beta.chart.draw(kept);
    if (ones) parts.alpha.chart.draw(ones);
    parts.categories.draw(categories);
    const [{ y: titles, customdata: kinds }] = categories.data;
    this.steps.offer(kinds.map(([, kind], i) => [kind, titles[i]]).reverse());
    this.showSelection();
  }
  showState(next) {
    const data = this.data = { ...this.data, ...next }, { state, job, steps: stepped, unit } = data;
    const parts = unit === 'part'; // of a comparison, which go on beside the dataset
    const done = (isActive(state) || parts) && job ? job.done : data.responses; // an unfinished batch is not in it
    const { total } = job || {};
    this.head.progress.show({ state, job, done, total, counted: [
      total && formatCount(done) + ' of ' + plural(total, unit),
      stepped && plural(stepped, 'step'), stepped && formatCount(data.above) + ' above β'] });
  }
  show(next) {
    const other = !this.data || this.data.id !== next.id;
    this.data = next;
    this.showState({});
    this.showHead();
    this.node.hidden = false;
    this.inside.hidden = !next.steps;
    if (!next.steps) return;
    this.showPanels();
    this.drawCharts();
    if (other) { this.amateurs.hide(); this.list(); }
    if (!next.imported) this.amateurs.look();
  }
  showHead() {
    const { head, data } = this, active = isActive(data.state);
    head.show(data);
    head.error.show(data.trouble || '');
    head.links.hidden = !data.steps;
    head.tune.hidden = !data.steps || !document.getElementById('lr-tab-finetune-button');
    head.push.show(data.id, data.steps && !active ? [['dataset', 'Dataset']] : []);
    const offered = data.steps ? DOWNLOADS.filter(([format]) => data.downloads.includes(format)) : [];
    head.links.replaceChildren(...offered.map(([format, text, says]) => el('button', { title: says,
      text, 'data-format': format, onclick: (event) => this.download(format, event.target) })));
  }
  async download(format, button) {
    button.disabled = true;
    await this.head.act(() => this.host.download(format, this.selection));
    button.disabled = false;
  }
  showPanels() {
    const { selectors, selection, health } = this.data, { parts } = this, { picker, selectorSays, quality } = parts;
    if (picker.options.length !== selectors.length) {
      picker.replaceChildren(...optionsOf(selectors.map((s) => [s.name, s.title])));
    }
    picker.value = this.selection.selector;
    parts.tau.parentElement.hidden = picker.value !== 'teaching';
    if (document.activeElement !== parts.tau) parts.tau.value = String(this.selection.tau ?? '');
    parts.cap.parentElement.hidden = this.data.imported; // its targets are fixed
    if (document.activeElement !== parts.cap) parts.cap.value = String(this.selection.cap ?? '');
    selectorSays.textContent = selectors.find((s) => s.name === picker.value)?.says || '';
    parts.selection.replaceChildren(...selection.map((text, i) =>
      el(i ? 'span' : 'b', { class: i ? 'lr-muted' : null, text })));
    quality.replaceChildren(...health.map((h) => el('li', { class: 'lr-tone-' + h.tone },
      el('span', { class: 'lr-tone', role: 'img', 'aria-label': TONES[h.tone][1], text: TONES[h.tone][0] }),
      el('span', {}, el('b', { text: h.title }), ' ', h.says))));
  }
  /** Another dataset: without filters, with the selection of its address. */
  begin(selection) {
    this.data = null;
    this.ranges = {};
    this.selection = { ...selection };
    this.node.hidden = true;
    this.head.begin();
    this.steps.reset();
    for (const chart of [this.parts.histogram, this.parts.teaching, this.parts.plane]) chart.reset();
    this.parts.categories.picked = '';
  }
}

// @ts-check
// One dataset: its facts, charts, selection, quality and steps. `host` has the server's calls; nothing here knows
// Gradio.
import { createHistogram, createSlider } from '../shared/charts.js';
import { createErrorBox, el, replaceIfChanged } from '../shared/dom.js';
import { PAPER } from '../shared/engine.js';
import { formatBytes, formatCount, formatNats, formatPercent } from '../shared/format.js';
import { createPush } from '../shared/push_form.js';
import { isActive, stateBadge } from '../shared/run_list.js';
import { createCommand, createDeletion, createRunProgress } from '../shared/run_view.js';
import { createSteps } from './step_table.js';

const TONES = { good: ['\u2713', 'OK'], warn: ['!', 'Warning'], bad: ['\u2715', 'Problem'] };
const DOWNLOADS = [
  ['paper', 'Samples (JSONL)', 'The samples of this selection, in the format of the paper\u2019s released samples'],
  ['parquet', 'Samples (Parquet)', 'The same samples as one table, with the token ids of the prefix'],
  ['raw', 'Trajectories (Parquet)', 'Everything that was sampled: every step, independent of \u03b1 and \u03b2'],
];
const DATASET_ACTIONS = {
  keep: ['Stop and keep', 'End now; the dataset holds what was sampled so far'],
  cancel: ['Cancel', 'Stop at once; what was sampled stays until it is deleted'],
  resume: ['Resume', 'Resume where it stopped; nothing is sampled twice'],
};

export function createExplorer(host) {
  let data = null, kind = null, brush = null, alpha = PAPER.alpha, beta = PAPER.beta, selector = 'kl', timer = 0;

  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' });
  const error = createErrorBox(), command = createCommand();
  const progress = createRunProgress({ label: 'Problems sampled', actions: DATASET_ACTIONS,
    act: (name) => act(() => host.act(name)) });
  const links = el('div', { class: 'lr-buttons', role: 'group', 'aria-label': 'Downloads' });
  const tune = el('a', { class: 'lr-job-made', href: '?tab=finetune', text: 'Fine-tune on it',
    title: 'Train the expert on these steps, with the settings for this pair' });
  const deletion = createDeletion({ label: 'Delete this dataset?', act: () => act(host.remove),
    text: () => 'Delete \u201c' + data.name + '\u201d, ' + formatBytes(data.bytes) + '? This cannot be undone.' });
  const push = createPush({ push: host.push, pushed: host.pushed });

  const histogram = createHistogram((range) => { brush = range; steps.first(); rows(); });
  const betaChart = createSlider({ title: 'Selected steps by \u03b2', says: 'share of all steps; drag the marker',
    label: 'Beta, the KL threshold in nats', xTicks: [0, 0.1, PAPER.beta, 1, 2, 3],
    root: true, step: 0.01, digits: 2, percentages: true, onInput: (value) => { beta = value; changed(200); } });
  const alphaChart = createSlider({ title: 'One-token targets by \u03b1', says: 'share of selected steps',
    label: 'Alpha, the plausibility threshold', xTicks: [PAPER.alphaFloor, PAPER.alpha, 0.4, 0.6, 0.8, 1],
    root: false, step: 0.01, digits: 2, percentages: true, onInput: (value) => { alpha = value; changed(200); } });
  const betaSays = el('p', { class: 'lr-chart-says' }), alphaSays = el('p', { class: 'lr-chart-says' });
  betaChart.node.append(betaSays);
  alphaChart.node.append(alphaSays);
  const kinds = el('ul', { class: 'lr-kinds' }), quality = el('ul', { class: 'lr-quality' });
  const picker = el('select', { 'aria-label': 'Selector' }), selectorSays = el('p', { class: 'lr-muted' });
  const selection = el('p', { class: 'lr-chosen' });
  picker.addEventListener('change', () => { selector = picker.value; changed(0); });
  const steps = createSteps({ onFilter: rows, onOpen: host.open, onMark: mark });

  const panel = (name, extra, ...children) => el('figure', { class: 'lr-chart ' + extra, 'aria-label': name },
    el('figcaption', {}, el('b', { text: name })), ...children);
  const kindsHelp = 'Mean KL in nats, and the number of steps. Select one to see only its steps.';
  const charts = el('div', { class: 'lr-charts' }, histogram.node, betaChart.node, alphaChart.node,
    panel('Token categories', '', el('p', { class: 'lr-muted', text: kindsHelp }), kinds),
    panel('Training samples', '', el('label', { class: 'lr-pick' }, el('span', { text: 'Selector' }), picker),
      selectorSays, selection),
    panel('Quality', '', quality));
  const inside = el('div', { class: 'lr-inside' }, el('div', { class: 'lr-card' }, charts), steps.node);
  const node = el('section', { class: 'lr-run-view', 'aria-label': 'The dataset', hidden: true },
    el('div', { class: 'lr-card lr-run-head' },
      el('div', { class: 'lr-top' }, el('div', { class: 'lr-run-title' }, title, badge),
        el('div', { class: 'lr-buttons' }, tune, deletion.button)),
      deletion.node, error.node, progress.node, facts, links, push.node, command.node),
    inside);

  async function act(call) { return error.show((await call()).error); }
  async function mark(row, next) {
    const answer = await host.mark(row, next);
    if (!answer.error) { row.mark = next; changed(400); }
    return error.show(answer.error);
  }
  const settings = () => ({ alpha, beta, selector });
  // The browser draws at once what it can; the numbers that depend on the selection come after the last movement.
  function changed(wait) {
    draw();
    linkToFinetune();
    host.address(settings());
    clearTimeout(timer);
    timer = setTimeout(host.refresh, wait);
  }
  function linkToFinetune() { // with the selection made here
    const params = data && { tab: 'finetune', dataset: data.id, alpha, beta: +beta.toFixed(4), selector };
    if (params) tune.href = '?' + new URLSearchParams(params);
  }
  async function rows() {
    if (!data || !data.steps) return;
    steps.busy(true);
    const [low, high] = brush || [null, null];
    const answer = await host.rows({ ...steps.query, kind: kind || '', low, high, ...settings() });
    if (!answer) return; // a later request is on its way
    steps.busy(false);
    if (!error.show(answer.error)) steps.show(answer);
  }

  function draw() {
    histogram.draw({ ...data.histogram, beta });
    const share = (n) => (data.steps ? n / data.steps : 0);
    const at = data.curve.find(([b]) => Math.abs(b - beta) < 1e-6), above = at ? at[1] : data.above;
    betaChart.draw(data.curve.map(([b, n]) => [b, share(n)]), beta);
    betaSays.replaceChildren('\u03b2 = ' + beta.toFixed(2) + ' nats: ',
      el('b', { text: formatCount(above) + ' of ' + formatCount(data.steps) + ' steps' }), ', ' +
        formatPercent(share(above)));
    alphaChart.node.hidden = !data.alphas.length;
    if (!data.alphas.length) return;
    alphaChart.draw(data.alphas.map((a) => [a.alpha, a.one_token]), alpha);
    const near = data.alphas.reduce((x, y) => (Math.abs(y.alpha - alpha) < Math.abs(x.alpha - alpha) ? y : x));
    alphaSays.replaceChildren('\u03b1 = ' + alpha.toFixed(2) + ': ',
      el('b', { text: near.tokens.toFixed(1) + ' tokens per target' }), ', ' + formatPercent(near.one_token) +
        ' hold a single one');
  }
  function drawKinds() {
    const most = Math.max(1e-9, ...data.kinds.map((k) => k.mean_kl));
    const toggle = (k) => { kind = kind === k.kind ? null : k.kind; drawKinds(); steps.first(); rows(); };
    replaceIfChanged(kinds, [data.kinds, kind], () => data.kinds.map((k) => el('li', {},
      el('button', { type: 'button', 'data-key': k.kind, 'aria-pressed': String(kind === k.kind), title: k.says,
        onclick: () => toggle(k) },
        el('span', { class: 'lr-kind-name', text: k.title }),
        el('span', { class: 'lr-track' }, el('i', { style: 'width:' + ((100 * k.mean_kl) / most).toFixed(1) + '%' })),
        el('span', { class: 'lr-num', text: formatNats(k.mean_kl) }),
        el('span', { class: 'lr-num lr-muted', text: formatCount(k.steps) })))));
  }
  function showState(next) {
    data = { ...data, ...next };
    const { state, job, steps: stepped, unit } = data;
    const done = isActive(state) && job ? job.done : data.responses; // an unfinished batch is not in the dataset
    const { total } = job || {};
    progress.show({ state, job, done, total, counted: [
      total && formatCount(done) + ' of ' + formatCount(total) + ' ' + unit,
      stepped && formatCount(stepped) + ' steps', stepped && formatCount(data.above) + ' above \u03b2'] });
  }
  function download(format) {
    return async (event) => {
      event.target.disabled = true;
      await act(() => host.download(format, settings()));
      event.target.disabled = false;
    };
  }
  function show(next) {
    const other = !data || data.id !== next.id, active = isActive(next.state);
    data = next;
    showState({});
    node.hidden = false;
    title.textContent = data.name;
    badge.replaceChildren(stateBadge(data.state));
    error.show(data.trouble || '');
    deletion.offer(!active); // a job has to be stopped first
    facts.replaceChildren(...data.facts.map(([name, text, says]) =>
      el('div', { title: says }, el('dt', { text: name }), el('dd', { text }))));
    command.show(data.command);
    inside.hidden = links.hidden = tune.hidden = !data.steps;
    if (!document.getElementById('lr-tab-finetune-button')) tune.hidden = true;
    linkToFinetune();
    push.show(data.id, data.steps && !active ? [['dataset', 'Dataset']] : []);
    if (!data.steps) return;
    const offered = DOWNLOADS.filter(([format]) => data.downloads.includes(format));
    links.replaceChildren(...offered.map(([format, text, says]) =>
      el('button', { type: 'button', 'data-format': format, title: says, text, onclick: download(format) })));
    if (picker.options.length !== data.selectors.length) {
      picker.replaceChildren(...data.selectors.map((s) => el('option', { value: s.name, text: s.title })));
    }
    picker.value = selector;
    selectorSays.textContent = (data.selectors.find((s) => s.name === selector) || {}).says || '';
    selection.replaceChildren(...data.selection.map((text, i) =>
      el(i ? 'span' : 'b', { class: i ? 'lr-muted' : null, text })));
    quality.replaceChildren(...data.health.map((h) => el('li', { class: 'lr-tone-' + h.tone },
      el('span', { class: 'lr-tone', role: 'img', 'aria-label': TONES[h.tone][1], text: TONES[h.tone][0] }),
      el('span', {}, el('b', { text: h.title }), ' ', h.says))));
    draw();
    drawKinds();
    if (other) rows();
  }
  return { node, show, showState, rows, settings, get data() { return data; },
    get inUse() { return steps.node.matches(':hover, :focus-within'); },
    adopt(moved) { ({ alpha, beta } = moved); }, // from the sliders of the step view
    begin(selected) { // another dataset: without filters, with the selection of its address
      data = null; kind = brush = null; ({ alpha, beta, selector } = selected);
      node.hidden = true;
      deletion.hide(); error.show(''); steps.reset(); histogram.reset();
    },
    focus() { title.focus({ preventScroll: true }); } };
}

// @ts-check
// One fine-tuning run: its progress, its curves, its settings, and what can be done with its adapter.
import { createErrorBox, el, replaceIfChanged } from '../shared/dom.js';
import { formatBytes, formatCount, formatDuration, formatNumber } from '../shared/format.js';
import { createPush } from '../shared/push_form.js';
import { isActive, stateBadge } from '../shared/run_list.js';
import { createCommand, createDeletion, createRunProgress } from '../shared/run_view.js';
import { createLineCharts } from './line_charts.js';

export const CURVES = [
  { key: 'loss', title: 'Loss', unit: 'nats', smooth: 10,
    says: 'KL(target \u2016 model) at the training samples, mean since the previous point' },
  { key: 'held_out_loss', title: 'Held-out loss', unit: 'nats', says: 'The same on held-out trajectories' },
  { key: 'drift', title: 'Drift', unit: 'nats',
    says: 'KL(expert \u2016 model) at the held-out steps that were not selected: the unintended change' },
  { key: 'learning_rate', title: 'Learning rate', unit: '', says: 'Of AdamW', zero: true },
  { key: 'grad_norm', title: 'Gradient norm', unit: '', says: 'Before it is clipped at 1', smooth: 10, zero: true },
  { key: 'samples_per_second', title: 'Samples', unit: 'per second', says: 'Trained on per second', smooth: 10,
    zero: true },
  { key: 'tokens_per_second', title: 'Tokens', unit: 'per second', says: 'Read per second, padding included',
    smooth: 10, zero: true },
];
const TUNING_ACTIONS = {
  keep: ['Stop and keep', 'End after this update, with the adapter as it is then'],
  cancel: ['Cancel', 'Stop at once; the checkpoints stay'],
  resume: ['Resume', 'Resume from the last checkpoint'],
};

// { trained, measured } of one run → { key: points }
export function curvePoints({ trained, measured }) {
  const points = (from, key) => from.update.map((u, i) => [u, from[key][i]]);
  return Object.fromEntries(CURVES.map(({ key }) => [key, points(key in measured ? measured : trained, key)]));
}

export function createTuning(host) {
  let data = null;
  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' });
  const error = createErrorBox(), command = createCommand(), notes = el('ul', { class: 'lr-sentences lr-muted' });
  const progress = createRunProgress({ label: 'Training steps', actions: TUNING_ACTIONS,
    act: (name) => act(() => host.act(name)) });
  const next = el('div', { class: 'lr-buttons lr-next', role: 'group', 'aria-label': 'Actions with the adapter' });
  const merged = el('p', { class: 'lr-merged', role: 'status' });
  const deletion = createDeletion({ label: 'Delete this run?', act: () => act(host.remove),
    text: () => 'Delete \u201c' + data.name + '\u201d, ' + formatBytes(data.bytes) +
      ', with its adapter, its checkpoints and its merged models? This cannot be undone.' });
  const push = createPush({ push: host.push, pushed: host.pushed });
  const charts = createLineCharts(CURVES), curves = el('section',
    { class: 'lr-card lr-curves', 'aria-label': 'Curves' },
    el('p', { class: 'lr-muted', text: 'By training step' }), charts.node);
  const settings = el('dl', { class: 'lr-rows-of-two' }), card = el('div');
  const settingsBox = el('details', { class: 'lr-card lr-settings', hidden: true }, el('summary', { text: 'Settings' }),
    settings);
  const cardBox = el('details', { class: 'lr-card lr-model-card', hidden: true },
    el('summary', { text: 'The adapter\u2019s card' }), card);
  const node = el('section', { class: 'lr-run-view', 'aria-label': 'The run', hidden: true },
    el('div', { class: 'lr-card lr-run-head' },
      el('div', { class: 'lr-top' }, el('div', { class: 'lr-run-title' }, title, badge), deletion.button),
      deletion.node, error.node, progress.node, facts, notes, next, merged, push.node, command.node),
    curves, settingsBox, cardBox);

  async function act(call) { return error.show((await call()).error); }
  const button = (name, text, help, call) => el('button', { type: 'button', 'data-key': name, title: help, text,
    onclick: async (event) => { event.target.disabled = true; await act(call); event.target.disabled = false; } });
  const link = (text, params, help, first) => el('a', { class: first ? 'lr-job-made' : 'lr-next-link',
    href: '?' + new URLSearchParams(params), title: help, text });

  // The state comes with every answer, the curves only when they changed.
  function showState(now) {
    data = { ...data, ...now };
    const { state, job, merge } = data, active = isActive(state), { done, total } = job;
    badge.replaceChildren(stateBadge(state, 'Training'));
    progress.show({ state, job, done, total,
      counted: [total && done ? formatCount(done) + ' of ' + formatCount(total) + ' training steps' : ''] });
    deletion.offer(!active && !(merge && merge.busy)); // a job has to be stopped first
    command.show(job.command);
    const ready = data.adapter && !active, made = merge && merge.folder;
    replaceIfChanged(next, [data.id, ready, merge && merge.busy, made], () =>
      (ready ? adapterActions(merge, made) : []));
    replaceIfChanged(merged, merge, () => (merge ? mergeStatus(merge) : []));
    merged.hidden = !merged.childNodes.length;
    push.show(data.id, !ready ? [] : [['adapter', 'Adapter'], ...(made ? [['merged', 'Merged model']] : [])]);
  }
  function adapterActions(merge, made) {
    const withEvaluation = document.getElementById('lr-tab-evaluate-button');
    return [
      withEvaluation && link('Evaluate', { tab: 'evaluate', run: data.id }, 'Accuracy before and after fine-tuning',
        true),
      link('Inspect with this model', { lens: data.id }, 'The tuned expert as a third model, token by token'),
      button('adapter', 'Download adapter (' + formatBytes(data.adapter) + ')', 'A zip that peft loads, with its card',
        () => host.download('adapter')),
      !(merge && merge.busy) && button('merge', made ? 'Merge again' : 'Merge into a model',
        'A job that writes base and adapter as one model, which plain transformers loads', host.merge),
      made && button('merged', 'Download merged model (' + formatBytes(merge.bytes) + ')', 'A zip of the whole model',
        () => host.download('merged')),
    ].filter(Boolean);
  }
  function mergeStatus({ busy, job, state, message, folder }) {
    if (busy) return ['Merging: ', el('a', { href: '?tab=jobs&job=' + job, text: 'the job' })];
    return [state === 'succeeded' ? '' : 'Merging ended: ' + (message || state) + ' ',
      folder ? el('span', {}, 'The merged model is in ', el('code', { text: folder })) : ''].filter(Boolean);
  }
  function drawFacts() {
    const { trained, measured, examples } = data.curves, { done, total } = data.job, ended = !isActive(data.state);
    const last = (from, key) => from[key].filter((x) => x !== null).pop();
    const seen = last(trained, 'samples_seen'), epochs = last(trained, 'epoch');
    const before = measured.held_out_loss.find((x) => x !== null), after = last(measured, 'held_out_loss');
    const heldOut = examples.held_out ? ', ' + formatCount(examples.held_out) + ' held out' : '';
    const took = ended && data.result.seconds;
    const rows = [
      ['Training steps', formatCount(done) + (total && total !== done ? ' of ' + formatCount(total) : ''),
        'Made so far'],
      Number.isFinite(seen) && ['Samples seen', formatCount(seen), 'With repetitions'],
      Number.isFinite(epochs) && ['Epochs', epochs.toFixed(2), 'Passes over the data'],
      examples.samples && ['Samples', formatCount(examples.samples), 'In the dataset, held-out ones included'],
      examples.trajectories && ['Trajectories', formatCount(examples.trajectories) + heldOut,
        'That the samples come from'],
      took >= 1 && ['Took', formatDuration(took), 'Training, evaluation and checkpoints of the last attempt'],
      ended && Number.isFinite(after) && ['Held-out loss', formatNumber(before) + ' \u2192 ' + formatNumber(after) +
        ' nats',
        'Before the first update and after the last'],
    ];
    facts.replaceChildren(...rows.filter(Boolean).map(([name, text, help]) =>
      el('div', { title: help }, el('dt', { text: name }), el('dd', { text }))));
  }
  function setting([name, value]) {
    const dataset = name === 'Dataset' && data.dataset;
    const href = '?' + new URLSearchParams({ tab: 'datasets', dataset });
    return el('div', {}, el('dt', { text: name }), el('dd', {}, dataset ? el('a', { href, text: value }) : value));
  }
  function show(now) {
    node.hidden = false;
    data = now;
    title.textContent = data.name;
    error.show('');
    showState({});
    drawFacts();
    notes.replaceChildren(...data.curves.notes.map((text) => el('li', { text })));
    notes.hidden = !data.curves.notes.length;
    curves.hidden = !data.curves.trained.update.length && !data.curves.measured.update.length;
    const lines = Object.entries(curvePoints(data.curves)).map(([key, points]) =>
      [key, [{ name: data.name, look: 0, points }]]);
    charts.draw(Object.fromEntries(lines), data.job.total);
    settingsBox.hidden = !data.settings.length;
    settings.replaceChildren(...data.settings.map(setting));
    cardBox.hidden = !data.card_html;
    if (cardBox.shown !== data.card_html) card.innerHTML = cardBox.shown = data.card_html; // the server made it safe
  }
  return { node, show, showState, get data() { return data; },
    begin() {
      data = null;
      node.hidden = true;
      cardBox.open = settingsBox.open = false;
      deletion.hide(); error.show('');
    } };
}

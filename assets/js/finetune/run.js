// @ts-check
// One fine-tuning run: its progress, its curves, its settings, and what can be done with its adapter.
import { el, linkTo, replaceIfChanged, termsOf } from '../shared/dom.js';
import { formatBytes, formatCount, formatDuration, formatNumber } from '../shared/format.js';
import { createPush } from '../shared/push_form.js';
import { isActive } from '../shared/run_list.js';
import { RunHead, createNaming } from '../shared/run_view.js';
import { Curves } from './curves.js';

const TUNING_ACTIONS = {
  keep: ['Stop and keep', 'End after this update, with the adapter as it is then'],
  cancel: ['Cancel', 'Stop at once; the checkpoints stay'],
  resume: ['Resume', 'Resume from the last checkpoint'],
};

/** What is known of a run in numbers, as [name, text, what it means]. */
function factsOf({ job: { done, total }, state, numbers, result, used }) {
  const { samples_seen: seen, epoch, before, after, lowest, samples, trajectories, held_out: heldOut } = numbers;
  const ended = !isActive(state), took = ended && result.seconds;
  return [
    ['Training steps', formatCount(done) + (total && total !== done ? ' of ' + formatCount(total) : ''), 'Made so far'],
    Number.isFinite(seen) && ['Samples seen', formatCount(seen), 'With repetitions'],
    Number.isFinite(epoch) && ['Epochs', epoch.toFixed(2), 'Passes over the data'],
    samples && ['Samples', formatCount(samples), 'In the dataset, held-out ones included'],
    trajectories && ['Trajectories', formatCount(trajectories) + (heldOut ? `, ${formatCount(heldOut)} held out` : ''),
      'That the samples come from'],
    took >= 1 && ['Took', formatDuration(took), 'Training, evaluation and checkpoints of the last attempt'],
    lowest && Number.isFinite(after) && lowest[1] < after && ['Lowest held-out loss',
      `${formatNumber(lowest[1])} nats at step ${formatCount(lowest[0])}`, 'Marked with a star in its curve'],
    used && ['Adapter in use', 'of step ' + formatCount(used.update), 'Not the last one: the one with the lowest loss'],
    ended && Number.isFinite(after) && ['Held-out loss', `${formatNumber(before)} → ${formatNumber(after)} nats`,
      'Before the first update and after the last'],
  ].filter(Boolean);
}
function mergeStatus({ busy, job, state, message, folder }) {
  if (busy) return ['Merging: ', linkTo({ tab: 'jobs', job }, 'the job')];
  return [state !== 'succeeded' && 'Merging ended: ' + (message || state) + ' ',
    folder && el('span', {}, 'The merged model is in ', el('code', { text: folder }))];
}

export class Tuning {
  /** @param {any} host of FinetuneTab, in mount.js */
  constructor(host) {
    this.host = host;
    /** @type {any} */ this.data = null;
    this.head = new RunHead(host, { noun: 'run', counts: 'Training steps', actions: TUNING_ACTIONS,
      deletes: () => `Delete “${this.data.name}”, ${formatBytes(this.data.bytes)}, ` +
        'with its adapter, its checkpoints and its merged models? This cannot be undone.' });
    this.saving = createNaming({ text: 'Save settings …', title: 'As a preset for the form and the command line',
      label: 'Name of the preset', yes: 'Save', value: () => '',
      act: (name) => this.head.act(() => host.savePreset(name)) });
    this.push = createPush({ push: host.push, pushed: host.pushed });
    this.curves = new Curves();
    this.shownCard = '';
    this.parts = this.layOut();
    this.node = this.parts.node;
  }
  layOut() {
    const { head } = this, notes = el('ul', { class: 'lr-sentences lr-muted' });
    const merged = el('p', { class: 'lr-merged', role: 'status' });
    const next = el('div', { class: 'lr-buttons lr-next', role: 'group', 'aria-label': 'Actions with the adapter' });
    const curves = el('section', { class: 'lr-card lr-curves', 'aria-label': 'Curves' }, this.curves.node);
    const settings = el('dl', { class: 'lr-rows-of-two' }), card = el('div');
    const settingsBox = el('details', { class: 'lr-card lr-settings', hidden: true },
      el('summary', { text: 'Settings' }), settings);
    const cardBox = el('details', { class: 'lr-card lr-model-card', hidden: true },
      el('summary', { text: 'The adapter’s card' }), card);
    const node = el('section', { class: 'lr-run-view', 'aria-label': 'The run', hidden: true },
      head.layOut({ buttons: [this.saving.button], forms: [this.saving.node],
        parts: [head.progress.node, head.facts, notes, next, merged, this.push.node] }),
      curves, settingsBox, cardBox);
    return { node, notes, next, merged, curves, settings, settingsBox, card, cardBox };
  }

  /** The state comes with every answer, the rest only when it changed. */
  showState(now) {
    this.data = { ...this.data, ...now };
    const { id, state, job, merge, adapter } = this.data, { done, total } = job, { next, merged } = this.parts;
    this.head.show({ ...this.data, facts: factsOf(this.data), command: job.command }, 'Training');
    this.head.progress.show({ state, job, done, total,
      counted: [total && done ? formatCount(done) + ' of ' + formatCount(total) + ' training steps' : ''] });
    if (merge?.busy) this.head.offerDeletion(false);
    const ready = adapter && !isActive(state), made = merge?.folder;
    replaceIfChanged(next, [id, ready, merge?.busy, made, this.data.other], () =>
      (ready ? this.adapterActions(merge, made) : []));
    replaceIfChanged(merged, merge, () => (merge ? mergeStatus(merge) : []));
    merged.hidden = !merged.childNodes.length;
    this.push.show(id, !ready ? [] : [['adapter', 'Adapter'], ...(made ? [['merged', 'Merged model']] : [])]);
  }
  adapterActions(merge, made) {
    const { id, adapter, other } = this.data, { host } = this;
    const button = (name, text, help, call) => el('button', { 'data-key': name, title: help, text,
      onclick: async (event) => {
        event.target.disabled = true;
        await this.head.act(call);
        event.target.disabled = false;
      } });
    return [
      document.getElementById('lr-tab-evaluate-button') && linkTo({ tab: 'evaluate', run: id }, 'Evaluate',
        { class: 'lr-job-made', title: 'Accuracy before and after fine-tuning' }),
      linkTo({ lens: id }, 'Inspect with this model',
        { class: 'lr-next-link', title: 'The tuned expert as a third model, token by token' }),
      button('adapter', 'Download adapter (' + formatBytes(adapter) + ')', 'A zip that peft loads, with its card',
        () => host.download('adapter')),
      other && !merge?.busy && button('use', `Use the ${other[0]} adapter (step ${formatCount(other[1].update)})`,
        'Evaluation, merging, publishing and Inspect then take it; the other one stays', () => host.use(other[0])),
      !merge?.busy && button('merge', made ? 'Merge again' : 'Merge into a model',
        'A job that writes base and adapter as one model, which plain transformers loads', host.merge),
      made && button('merged', 'Download merged model (' + formatBytes(merge.bytes) + ')', 'A zip of the whole model',
        () => host.download('merged')),
    ];
  }
  show(now) {
    const { node, notes, curves, settings, settingsBox, card, cardBox } = this.parts;
    node.hidden = false;
    this.data = now;
    this.head.error.show('');
    this.showState({});
    notes.replaceChildren(...now.notes.map((text) => el('li', { text })));
    notes.hidden = !now.notes.length;
    curves.hidden = !Object.keys(now.figures.marks).length;
    this.curves.show(now.figures);
    settingsBox.hidden = !now.settings.length;
    settings.replaceChildren(...termsOf(now.settings.map(([name, value]) => [name,
      name === 'Dataset' && now.dataset ? linkTo({ tab: 'datasets', dataset: now.dataset }, value) : value])));
    cardBox.hidden = !now.card_html;
    if (this.shownCard !== now.card_html) card.innerHTML = this.shownCard = now.card_html; // the server made it safe
  }
  /** Another run will be shown. */
  begin() {
    const { node, cardBox, settingsBox } = this.parts;
    this.data = null;
    node.hidden = true;
    cardBox.open = settingsBox.open = false;
    this.saving.hide();
    this.head.begin();
    this.curves.reset();
  }
}

// @ts-check
// One evaluation: its models with their intervals, the paired comparison, and the problems that changed sides. `host`
// has the server's calls.
import { createErrorBox, el, replaceIfChanged, setText } from '../shared/dom.js';
import { formatCount, plural } from '../shared/format.js';
import { isActive, stateBadge } from '../shared/run_list.js';
import { createCommand, createDeletion, createRunProgress } from '../shared/run_view.js';
import { createFlipLists } from './flips.js';
import { modelsTable, plotted } from './models_table.js';
import { axisNode, gridTable, intervalNode, points, shareAxis } from './plots.js';

const EVALUATION_ACTIONS = {
  keep: ['Stop and keep', 'End after the problems in progress; the answers up to then are saved'],
  cancel: ['Cancel', 'Stop at once; the answers so far stay on disk'],
  resume: ['Resume', 'Resume where it stopped; nothing is solved twice'],
};
function comparisonTable(models, comparisons, onFlips) {
  const axis = shareAxis(comparisons.flatMap((c) => [c.low, c.high]), { zero: true });
  const columns = [
    { title: 'Model', class: 'lr-name' },
    { title: 'Points', class: 'lr-num', says: 'Its pass@1 minus the first model\u2019s, in percentage points' },
    { title: '95 % interval', class: 'lr-plotted', axis: axisNode(axis, (x) =>
      (x ? points(x).replace('.0', '') : '0')) },
    { title: 'Gained', class: 'lr-num', says: 'Wrong before, right after' },
    { title: 'Lost', class: 'lr-num', says: 'Right before, wrong after' },
    { title: 'McNemar p', class: 'lr-significance',
      says: 'McNemar\u2019s test on the problems that changed sides; p is how often chance alone would change as many' }];
  const p = (x) => (x < 0.0001 ? 'p < 0.0001' : 'p = ' + x.toPrecision(2).replace(/^0\.00(\d)0$/, '0.00$1'));
  const rows = comparisons.map((c) => {
    const tone = c.verdict !== 'significant' ? '' : c.difference > 0 ? 'lr-better' : 'lr-worse',
      { name } = models[c.model];
    const flips = (side) => el('button', { type: 'button', class: 'lr-flip-count', disabled: !c[side],
      'data-key': side + c.model,
      'aria-label': formatCount(c[side]) + ' ' + side + ' by ' + name, text: formatCount(c[side]),
      onclick: () => onFlips(c.model, side) });
    return { cells: [name, el('b', { class: tone, text: points(c.difference) }),
      plotted(intervalNode(axis, c.difference, [c.low, c.high], { at: 0, look: tone }), points(c.low) + ' to ' +
        points(c.high)),
      flips('gained'), flips('lost'),
      el('span', {}, el('b', { text: c.verdict }),
        c.gained + c.lost ? el('span', { class: 'lr-muted lr-p', text: ' (' + p(c.p) + ')' }) : '')] };
  });
  return gridTable('Compared problem by problem', columns, rows);
}

export function createEvaluation(host) {
  let data = null;
  const title = el('h2', { tabindex: '-1' }), badge = el('span'), facts = el('dl', { class: 'lr-numbers' });
  const error = createErrorBox(), command = createCommand();
  const progress = createRunProgress({ label: 'Problems solved', actions: EVALUATION_ACTIONS,
    act: (name) => act(() => host.act(name)) });
  const deletion = createDeletion({ label: 'Delete this evaluation?', act: () => act(host.remove),
    text: () => 'Delete this evaluation and all its answers? This cannot be undone.' });
  const results = el('div', { class: 'lr-results' }), flips = createFlipLists(host);
  const card = el('div', { class: 'lr-card', hidden: true }, results);
  const node = el('section', { class: 'lr-run-view', 'aria-label': 'The evaluation', hidden: true },
    el('div', { class: 'lr-card lr-run-head' },
      el('div', { class: 'lr-top' }, el('div', { class: 'lr-run-title' }, title, badge), deletion.button),
      deletion.node, error.node, progress.node, facts, command.node),
    card, flips.node);

  async function act(call) { return error.show((await call()).error); }
  function preliminary() {
    if (data.state === 'done') return '';
    return isActive(data.state) ? 'Preliminary: results change until the evaluation finishes; short problems come first.'
      : 'The evaluation ended early; these are the answers up to then.';
  }
  function drawResults() {
    const { models, comparisons, paper } = data;
    return [el('h3', { text: 'pass@1' }), el('p', { class: 'lr-muted', hidden: !preliminary(), text: preliminary() }),
      modelsTable('pass@1 of each model', models, paper, false),
      ...(comparisons.length ? [el('h3', { text: 'Against ' + models[0].name }),
        comparisonTable(models, comparisons, (model, side) => flips.show(model, side))] : []),
      models.length < 2 ? el('p', { class: 'lr-muted',
        text: 'One model only. Tick a fine-tuned one in the form to compare the two problem by problem.' }) : ''];
  }

  function show(now) {
    const other = !data || data.id !== now.id;
    data = now;
    node.hidden = false;
    if (other) { deletion.hide(); error.show(''); flips.begin(); }
    setText(title, data.name);
    replaceIfChanged(badge, data.state, () => [stateBadge(data.state, 'Running')]);
    deletion.offer(!isActive(data.state));
    const { state, job, done = 0 } = data, total = data.total || (job && job.total) || 0;
    const counted = [total && formatCount(done) + ' of ' + plural(total, 'answer')];
    progress.show({ state, job, done, total, counted });
    replaceIfChanged(facts, data.facts, () => data.facts.map(([name, value, says]) =>
      el('div', { title: says || null }, el('dt', { text: name }), el('dd', { text: value }))));
    command.show(data.command);
    const started = data.models.some((m) => m.problems);
    card.hidden = !started;
    replaceIfChanged(results, [data.models, data.comparisons, data.paper, data.state], () =>
      (started ? drawResults() : []));
    flips.update(data);
  }
  return { node, show, focus: () => title.focus(), hide() { node.hidden = true; data = null; },
    get data() { return data; } };
}

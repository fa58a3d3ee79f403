// @ts-check
// One evaluation: its models with their intervals, the paired comparison, the problems that changed sides, and all
// responses.
import { el, muted, replaceIfChanged } from '../shared/dom.js';
import { formatCount, plural } from '../shared/format.js';
import { isActive } from '../shared/run_list.js';
import { RunHead } from '../shared/run_view.js';
import { comparisonChart, comparisonTable } from './comparison_table.js';
import { FlipLists } from './flip_lists.js';
import { tableButtons } from './grid_table.js';
import { groupTables, modelsChart, modelsTable, samplesTable } from './models_table.js';
import { nameChart, previewChart, previewNotes } from './preview.js';
import { Regrading } from './regrading.js';
import { ResponseList } from './responses.js';

const ACTIONS = {
  keep: ['Stop and keep', 'End after the problems in progress; the answers up to then are saved'],
  cancel: ['Cancel', 'Stop at once; the answers so far stay on disk'],
  resume: ['Resume', 'Resume where it stopped; nothing is solved twice'],
};
const ONE_MODEL = 'One model only. Tick a fine-tuned one in the form to compare the two problem by problem.';
function preliminary(state) {
  if (state === 'done') return '';
  return isActive(state) ? 'Preliminary: results change until the evaluation finishes; short problems come first.'
    : 'The evaluation ended early; these are the answers up to then.';
}

export class EvaluationView {
  /** @param {any} host the calls on the opened evaluation, of mount.js */
  constructor(host) {
    /** @type {any} */ this.data = null;
    this.save = host.save;
    this.charts = { models: modelsChart('h3', 'pass@1'), differences: comparisonChart(), preview: previewChart() };
    this.head = new RunHead(host, { noun: 'evaluation', counts: 'Problems solved', actions: ACTIONS,
      deletes: () => 'Delete this evaluation and all its answers? This cannot be undone.' });
    this.results = el('div', { class: 'lr-results' });
    this.card = el('div', { class: 'lr-card', hidden: true }, this.results);
    this.flips = new FlipLists(host);
    this.responses = new ResponseList(host);
    this.regrading = new Regrading(host.regrade);
    this.node = el('section', { class: 'lr-run-view', 'aria-label': 'The evaluation', hidden: true },
      this.head.layOut({ buttons: [this.regrading.button],
        parts: [this.head.progress.node, this.head.facts, this.regrading.node] }),
      this.card, this.flips.node, this.responses.node);
  }
  focus() { this.head.title.focus(); }
  hide() { this.node.hidden = true; this.data = null; }

  show(data) {
    const other = this.data?.id !== data.id, { state, job, models } = data;
    this.data = data;
    this.node.hidden = false;
    if (other) {
      this.regrading.hide();
      for (const part of [this.head, this.flips, this.responses]) part.begin();
    }
    this.head.show(data, 'Running');
    const { done = 0 } = data, total = data.total || (job && job.total) || 0;
    this.head.progress.show({ state, job, done, total,
      counted: [total && formatCount(done) + ' of ' + plural(total, 'answer')] });
    this.card.hidden = !models.some((m) => m.problems);
    replaceIfChanged(this.results, [models, data.comparisons, data.paper, data.preview, state], () =>
      (this.card.hidden ? [] : this.drawResults(data)));
    this.flips.update(data);
    this.responses.update(data);
    this.regrading.show(data);
  }
  drawResults({ models, comparisons, paper, preview, state }) {
    const early = preliminary(state), k = Math.max(...models.map((m) => m.samples || 1));
    this.charts.models.rename(k > 1 ? 'avg@' + k : 'pass@1');
    this.charts.differences.rename('Difference in ' + (k > 1 ? 'maj@' + k : 'pass@1'));
    if (preview) nameChart(this.charts.preview, preview);
    const graded = models.some((m) => Number.isFinite(m.pass_at_1));
    return [early && muted(early, 'p'), preview && this.charts.preview.node, preview && previewNotes(preview),
      graded && this.charts.models.node, modelsTable('pass@1 of each model', models, paper, false),
      ...samplesTable(models), ...groupTables(models),
      ...(comparisons.length ? [el('h3', { text: 'Against ' + models[0].name }), this.charts.differences.node,
        comparisonTable(models, comparisons, (model, side) => this.flips.show(model, side))] : []),
      tableButtons(this.save), models.length < 2 && muted(ONE_MODEL, 'p')];
  }
  /** The figures of what show() has shown, by the names of the charts. */
  draw(figures) {
    for (const [name, figure] of Object.entries(figures)) {
      figure.layout.uirevision = this.data.id; // a zoom stays while results come
      this.charts[name].draw(figure);
    }
  }
}

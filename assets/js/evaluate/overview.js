// @ts-check
// All results side by side, a chart and a table for each base model and benchmark, and what they cost.
import { el, muted, replaceIfChanged } from '../shared/dom.js';
import { costsCard, paperCard, shortName } from './cost_table.js';
import { tableButtons } from './grid_table.js';
import { modelsChart, modelsTable } from './models_table.js';

const SAYS = 'Each model’s largest evaluation on each benchmark. The paper’s numbers are below ours where ' +
  'it has the same model and benchmark.';

export class Overview {
  /** @param {(kind: string) => void} save the table of all results */
  constructor(save) {
    this.save = save;
    this.place = el('div', { class: 'lr-overview' });
    this.node = el('section', { class: 'lr-run-view', 'aria-label': 'All results', hidden: true }, this.place);
    /** @type {Map<string, import('../shared/chart.js').Chart>} */ this.charts = new Map();
  }
  /** @param {any} data @param {any[]} [figures] one per group; left out where they are as before */
  show(data, figures) {
    this.node.hidden = false;
    replaceIfChanged(this.place, data, () => [
      data.groups.length > 0 && this.results(data.groups), costsCard(data.costs, data.paper),
      paperCard(data.paper, !!this.place.querySelector('details.lr-results')?.hasAttribute('open'))]);
    figures?.forEach((figure, n) => {
      figure.layout.uirevision = 'same'; // a zoom stays
      this.chart(data.groups[n]).draw(figure);
    });
  }
  hide() { this.node.hidden = true; }
  results(groups) {
    return el('div', { class: 'lr-card lr-results' }, el('h3', { text: 'All results' }), muted(SAYS, 'p'),
      ...groups.flatMap((group) => [this.chart(group).node,
        modelsTable(group.title + ', ' + shortName(group.base), group.models, group.paper, true)]),
      tableButtons(this.save));
  }
  chart(group) {
    const key = group.base + ' ' + group.key;
    if (!this.charts.has(key)) this.charts.set(key, modelsChart('h4', shortName(group.base) + ' on ' + group.title));
    return this.charts.get(key);
  }
}

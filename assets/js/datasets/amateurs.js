// @ts-check
// The amateurs of a dataset beside each other: what each selects and teaches, its gap and what its preview gains; the
// one that is recommended, on the way to the forms; and one more that reads along.
import { gridTable, pct, points } from '../evaluate/grid_table.js';
import { Chart } from '../shared/chart.js';
import { createErrorBox, el, linkTo, replaceIfChanged, setText } from '../shared/dom.js';
import { formatCount } from '../shared/format.js';

const COLUMNS = [{ title: 'Amateur' },
  { title: 'Above β', says: 'Steps of KL above β, and their share of all steps' },
  { title: 'Taught, nats', says: 'KL(target ‖ expert), summed over the steps above β' },
  { title: 'Idle', says: 'Share of the steps above β that teach nothing' },
  { title: 'Agreement', says: 'Mean Jaccard index with the other amateurs’ selected steps' },
  { title: 'Gap', says: 'Accuracy of the expert minus the amateur’s, in points, with its interval' },
  { title: 'Preview', says: 'What the best cell of its preview gains, in points, with its interval' }];
const ALONE = 'Without, KL leaves out how the rest of the vocabulary is spread: some steps above β are missed, '
  + '0.4 and 1.9 % of them with two amateurs of the bundled expert';
const range = (value, low, high) =>
  (value === null ? '–' : `${points(value)} (${points(low)} to ${points(high)})`);

/** A row of the table; the names open the amateur's own dataset, the gains its preview. */
function cells(row) {
  const gain = range(row.gain, row.gain_low, row.gain_high);
  return [linkTo({ tab: 'datasets', dataset: row.id }, row.name),
    (row.least ? '≥ ' : '') + formatCount(row.selected) + ', ' + pct(row.share), row.signal.toFixed(1),
    row.idle === null ? '–' : pct(row.idle),
    row.agreement === null ? '–' : row.agreement.toFixed(2), range(row.gap, row.gap_low, row.gap_high),
    row.preview ? linkTo({ tab: 'evaluate', run: row.preview }, gain) : gain];
}
/** The ways that lead on with one amateur. */
function ways({ best, expert }) {
  if (!best) return [];
  const chosen = { alpha: String(best.alpha), beta: String(best.beta),
    ...(best.cap === null ? {} : { cap: String(best.cap) }) };
  const way = (text, place) => linkTo(place, text, { class: 'lr-job-made' });
  return [way('Fine-tune on ' + best.name + '’s steps', { tab: 'finetune', dataset: best.id, ...chosen }),
    way('Improve the expert with ' + best.name, { tab: 'improve', expert, amateur: best.ref })];
}

export class AmateursPanel {
  /**
   * @param {{ look: (seen: string) => Promise<any>, add: (ref: string, exact: boolean) => Promise<any> }} host
   */
  constructor(host) {
    this.host = host;
    this.seen = '';
    this.asked = 0;
    this.gap = new Chart({ title: 'Gap against gain', name: 'amateurs-gap-against-gain',
      says: 'with 95 % intervals; without a preview an amateur has no point' });
    this.spread = new Chart({ title: 'KL of each amateur', name: 'amateurs-by-kl', says: 'the dashed line is β' });
    this.sentence = el('p', { class: 'lr-verdict' });
    this.next = el('p', { class: 'lr-buttons' });
    this.table = el('div');
    this.notes = el('div', { class: 'lr-muted' });
    this.error = createErrorBox();
    this.ref = el('input', { type: 'search', 'aria-label': 'One more amateur', placeholder: 'a Hub id or a folder',
      maxlength: '500' });
    this.exact = el('input', { type: 'checkbox' });
    this.button = el('button', { text: 'Add an amateur', onclick: () => this.add(),
      title: 'It reads the stored responses; nothing is sampled anew' });
    const adding = el('div', { class: 'lr-filters' }, this.ref,
      el('label', { title: ALONE }, this.exact, ' the expert reads along'), this.button);
    this.node = el('section', { class: 'lr-card lr-amateurs', 'aria-label': 'Amateurs', hidden: true },
      el('h3', { text: 'Amateurs' }), this.sentence, this.next, this.table,
      el('div', { class: 'lr-charts' }, this.gap.node, this.spread.node), this.notes, adding, this.error.node);
  }
  hide() { this.node.hidden = true; this.seen = ''; }

  /** What has changed since the last look. */
  async look() {
    const mine = ++this.asked, answer = await this.host.look(this.seen);
    if (mine !== this.asked) return;
    if (answer.error) { this.node.hidden = true; return; }
    this.seen = answer.seen;
    if (answer.rows) this.show(answer);
  }
  show(answer) {
    const { rows, figures, sentence, notes } = answer, several = rows.length > 1;
    this.node.hidden = false;
    setText(this.sentence, sentence);
    replaceIfChanged(this.next, answer.best, () => ways(answer));
    replaceIfChanged(this.table, rows, () => [gridTable('Their numbers', COLUMNS, rows.map((row) => ({
      class: row.id === answer.best?.id ? 'lr-best' : null, cells: cells(row) })))]);
    replaceIfChanged(this.notes, notes, () => notes.map((text) => el('p', { text })));
    this.gap.node.hidden = !rows.some((row) => row.gap !== null && row.gain !== null);
    this.spread.node.hidden = !several;
    if (!this.gap.node.hidden) this.gap.draw(figures.gap);
    if (several) this.spread.draw(figures.histogram);
  }
  async add() {
    const ref = this.ref.value.trim();
    if (!ref) { this.error.show('Name the model that is to read along.'); return; }
    this.button.disabled = true;
    const answer = await this.host.add(ref, this.exact.checked);
    this.button.disabled = false;
    if (!this.error.show(answer.error)) this.ref.value = '';
  }
}

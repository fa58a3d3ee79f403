// @ts-check
// One quantity over the course of training (a figure of lightreasoner/training/figures.py), as the toolbar above all
// curves has it: by training step, samples or time, smoothed, zoomed in x like its neighbours.
import { Chart } from '../shared/chart.js';
import { el } from '../shared/dom.js';
import { formatCount, formatNumber, plural } from '../shared/format.js';

/**
 * How all curves of a group are drawn.
 * @typedef {object} View
 * @property {'update' | 'samples' | 'seconds'} along what x is
 * @property {string} scale of y
 * @property {number} smooth points of the trailing mean; 0: none
 * @property {Set<string>} hidden names of series
 * @property {[number, number] | null} zoom the part of x that is shown
 * @property {number | null} cursor an x
 * @property {{ seconds: number, name: string }} clock the unit of time
 */
/** @typedef {{ name: string, colour: string, x: number[], y: number[] }} Line a series as it is drawn */

/** @type {Record<string, { title: string, hover: string, at: (x: number, clock: { name: string }) => string }>} */
export const AXES = {
  update: { title: 'training step', hover: 'training step %{x:,}', at: (x) => 'training step ' + formatCount(x) },
  samples: { title: 'samples seen', hover: '%{x:,} samples', at: (x) => plural(x, 'sample') },
  seconds: { title: 'time', hover: '%{x:.3~g} ', at: (x, { name }) => formatNumber(x) + ' ' + name },
};

const NOWHERE = -1e9; // x of a cursor that is not shown

/** Each value as the mean of itself and those before it, n in all. */
function trailingMeans(values, n) {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= n ? values[i - n] : 0);
    return sum / Math.min(i + 1, n);
  });
}
/** What was measured, pale behind its means. */
const paleCopy = (trace) => ({ ...trace, mode: 'lines', opacity: 0.3, line: { ...trace.line, width: 1, dash: 'solid' },
  showlegend: false, hoverinfo: 'skip', hovertemplate: null });
/** The place of the value nearest to x; values ascend. */
function nearest(values, x) {
  const after = values.findIndex((value) => value >= x);
  if (after < 0) return values.length - 1;
  return after && x - values[after - 1] < values[after] - x ? after - 1 : after;
}

export class CurveChart extends Chart {
  /**
   * @param {string} key @param {any} meta the figure's layout.meta @param {View} view
   * @param {{ want: (chart: CurveChart) => void, zoom: (zoom: [number, number] | null) => void,
   *   hide: (names: string[]) => void, point: (x: number | null) => void }} group
   */
  constructor(key, { title, unit, help }, view, group) {
    super({ title, says: unit, name: key.replace(/_/g, '-'), onLegend: (names) => group.hide(names),
      onLayout: (changes) => this.zoomed(changes) });
    this.view = view;
    this.group = group;
    /** @type {Line[]} */ this.lines = [];
    /** @type {[number, number] | null} */ this.zoomY = null;
    this.value = el('span', { class: 'lr-line-value' });
    this.node.dataset.chart = key;
    this.node.title = help;
    this.node.querySelector('figcaption').insertBefore(this.value, this.menu.node);
    this.hovered = false; // plotly.js shows where
    this.inSight = true;
    this.late = false; // it changed while it was out of sight
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.inSight = isIntersecting;
      if (isIntersecting && this.late) group.want(this);
    }, { rootMargin: '200px' }).observe(this.node);
  }
  /** The group draws its charts one after another, so that the page answers in between. */
  async redraw() { this.group?.want(this); }
  async paint() {
    this.late = !!this.drawn && !this.inSight;
    if (this.late) return;
    await super.redraw();
    this.point();
  }

  prepared() {
    const copy = super.prepared(), { along, smooth, zoom, clock } = this.view, { meta, xaxis, yaxis } = copy.layout;
    const means = meta.smooth && smooth > 1 ? smooth : 0, several = copy.data.length > 1;
    for (const trace of copy.data) this.arrange(trace, several);
    const raw = means ? copy.data.map(paleCopy) : [];
    for (const trace of means ? copy.data : []) {
      Object.assign(trace, { text: trace.y.map(formatNumber), y: trailingMeans(trace.y, means) });
      trace.hovertemplate = '%{y:.4~g}, raw %{text}' + (several ? '' : '<extra></extra>');
    }
    this.lines = copy.data.map(({ name, line: { color: colour }, x, y }) => ({ name, colour, x, y }));
    copy.data = [...raw, ...copy.data];
    const most = this.lines.reduce((high, { x }) => Math.max(high, x[x.length - 1]), 0);
    xaxis.range = zoom ? [...zoom] : along === 'update' ? xaxis.range : [0, most || 1];
    xaxis.title.text = AXES[along].title + (along === 'seconds' ? ' in ' + clock.name : '');
    xaxis.unifiedhovertitle = { text: AXES[along].hover + (along === 'seconds' ? clock.name : '') };
    if (this.zoomY) yaxis.range = [...this.zoomY];
    return copy;
  }
  /** A series along the x that was chosen. */
  arrange(trace, several) {
    const { along, hidden, clock } = this.view, column = ['samples', 'seconds'].indexOf(along);
    if (column >= 0) trace.x = trace.customdata.map((row) => row[column] / (along === 'seconds' ? clock.seconds : 1));
    Object.assign(trace, { visible: hidden.has(trace.name) ? 'legendonly' : true, legendgroup: trace.name,
      hovertemplate: '%{y:.4~g}' + (several ? '' : '<extra></extra>') });
  }

  listen() {
    super.listen();
    const plot = /** @type {any} */ (this.plot);
    plot.on('plotly_hover', ({ points }) => { this.hovered = true; this.group.point(points[0].x); });
    plot.on('plotly_unhover', () => { this.hovered = false; this.group.point(null); });
  }
  /** The user dragged a box; x is zoomed in all charts. */
  zoomed(changes) {
    const range = (axis) => [0, 1].map((i) => changes[axis + '.range[' + i + ']'] ?? changes[axis + '.range']?.[i]);
    const [x, y] = [range('xaxis'), range('yaxis')];
    if (y.every(Number.isFinite)) this.zoomY = /** @type {[number, number]} */ (y);
    if (x.every(Number.isFinite)) this.group.zoom(/** @type {[number, number]} */ (x));
  }
  reset() { this.group.zoom(null); }
  setScale(scale) {
    if (scale !== this.scale) this.zoomY = null;
    super.setScale(scale);
  }

  /** Shows the values at the cursor, or the last ones, and where the cursor is. */
  point() {
    const { cursor, along, hidden } = this.view, shown = this.lines.filter(({ name }) => !hidden.has(name));
    const ends = shown.map(({ x }) => (cursor === null ? x.length - 1 : nearest(x, cursor)));
    const texts = shown.map(({ y }, i) => formatNumber(y[ends[i]])), [first] = shown;
    const where = (x) => ' at ' + (along === 'seconds' ? formatNumber(x) : formatCount(x));
    this.value.replaceChildren(...(this.lines.length > 1 ? shown.map(({ name, colour }, i) =>
      el('span', {}, el('b', { style: 'color:' + colour, text: name }), ' ' + texts[i]))
      : texts.map((text) => el('span', {}, el('b', { text }), cursor === null ? '' : where(first.x[ends[0]])))));
    const at = cursor === null || this.hovered || !shown.length ? NOWHERE : shown[0].x[ends[0]];
    this.move({ cursor: { x0: at, x1: at } });
  }
  settle() {} // the cursor is drawn well enough where it moved to
}

// @ts-check
// One chart on the page: a figure of the engine (lightreasoner/plotting.py), drawn by plotly.js, with its title, its
// text alternative and a menu that switches the scale and saves the picture or its table.
//
// plotly.js is loaded when the first chart is seen. A chart that is out of sight is drawn when it comes into sight.
import { download, el, muted, replaceIfChanged } from './dom.js';
import { formatNumber } from './format.js';

/** @typedef {{ data: any[], layout: any }} Figure */

const PLOTLY = new URL('../plotly.min.js', import.meta.url).href;
const NOT_LOADED = 'The charts could not be loaded; reload the page.';
const SCALES = { linear: 'Linear axis', log: 'Logarithmic axis', root: 'Square-root axis' };
const CONFIG = { displayModeBar: false, displaylogo: false, doubleClick: false, showTips: false };
const REST = 250; // milliseconds without a movement
const NARROW = 560; // pixels
const TOUCH = matchMedia('(pointer: coarse)');

let loading = null;
/** plotly.js, loaded once. A failed attempt is made again at the next call. @returns {Promise<any>} */
function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const failed = () => { loading = null; reject(new Error(NOT_LOADED)); };
    const script = el('script', { src: PLOTLY, onload: () => resolve(window['Plotly']), onerror: failed });
    document.head.append(script);
  });
  return loading;
}

/**
 * Calls act() while the page's <base> names no address. With one, plotly.js writes the address of the page into its
 * clip paths, and browsers load the page again for each as soon as the address bar changes.
 */
function withoutBase(act) {
  const base = document.querySelector('base'), href = base?.getAttribute('href');
  base?.removeAttribute('href');
  try { return act(); } finally { if (href) base.setAttribute('href', href); }
}

/** @type {Set<Chart>} */
const charts = new Set(); // those on the page, redrawn when its theme changes
const redrawAll = () => charts.forEach((chart) => chart.redraw());
new MutationObserver(redrawAll).observe(document.body, { attributes: true, attributeFilter: ['class'] });

/** A copy of a part of a figure, with the values of the page's CSS variables. plotly.js changes what it is given. */
function withColours(part, style) {
  if (typeof part === 'string' && part.startsWith('var(')) return style.getPropertyValue(part.slice(4, -1)).trim();
  if (!part || typeof part !== 'object') return part;
  if (!Array.isArray(part)) {
    return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, withColours(value, style)]));
  }
  const [first] = part;
  if (Array.isArray(first) && String(first[1]).startsWith('var(')) { // a heatmap's colours: [value, colour] each
    return part.map(([at, colour]) => [at, withColours(colour, style)]);
  }
  const holdsMore = typeof first === 'string' || (first && typeof first === 'object' && !Array.isArray(first));
  return holdsMore ? part.map((item) => withColours(item, style)) : part.slice();
}

/** The largest round number up to x. */
function roundDown(x) {
  const power = 10 ** Math.floor(Math.log10(x));
  return [5, 2, 1].find((digit) => digit * power <= x) * power;
}
/** Round numbers from 0 to `most`, close together near 0 as a square-root axis has them. */
const rootTicks = (most) => (most > 0 ? [0, ...[most / 20, most / 4, most].map(roundDown)] : [0]);

const largest = (data) => data.reduce((most, { y }) => y.reduce((a, b) => (b > a && b < Infinity ? b : a), most), 0);
/** Puts the y axis of a figure into a scale. plotly.js has no square-root axis, so values and ticks are converted. */
function scaleAxis({ data, layout }, scale) {
  const axis = layout.yaxis;
  if (layout.meta.scales.length < 2) return; // it may hold names
  axis.type = scale === 'log' ? 'log' : 'linear';
  if (scale === 'log') { delete axis.rangemode; delete axis.range; }
  if (scale !== 'root') return;
  const most = largest(data);
  const ticks = rootTicks(most);
  for (const trace of data) trace.y = trace.y.map((y) => (y === null ? null : Math.sqrt(y)));
  Object.assign(axis, { tickvals: ticks.map(Math.sqrt), ticktext: ticks.map(formatNumber) });
}
/** A shape in the units of the scaled axis; a logarithmic one ends below what can be seen. */
function scaleShape(shape, scale) {
  if ((shape.yref || 'y') !== 'y' || scale === 'linear') return shape;
  const at = (y) => (scale === 'root' ? Math.sqrt(Math.max(0, y)) : Math.max(1e-9, y));
  return { ...shape, y0: at(shape.y0), y1: at(shape.y1) };
}
/** Where a line or a rectangle stands in the plot, as an SVG path. area: the plot's rectangle; layout: as drawn. */
function pathOf(shape, area, { xaxis, yaxis }) {
  const share = (value, { range: [low, high], type }) =>
    ((type === 'log' ? Math.log10(value) : value) - low) / (high - low);
  const x = (value) => area.x + area.width * (shape.xref === 'paper' ? value : share(value, xaxis));
  const y = (value) => area.y + area.height * (1 - (shape.yref === 'paper' ? value : share(value, yaxis)));
  const [x0, x1, y0, y1] = [x(shape.x0), x(shape.x1), y(shape.y0), y(shape.y1)];
  return shape.type === 'line' ? `M${x0},${y0}L${x1},${y1}` : `M${x0},${y0}H${x1}V${y1}H${x0}Z`;
}

/** A cell of a CSV file: quoted where needed, and never a formula for a spreadsheet. */
function csvCell(value) {
  const text = value === null || value === undefined ? '' : String(value);
  const safe = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? '\'' + text : text;
  return /[",\n\r]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
}
const plain = (text) => String(text).replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&');

/** The table behind a figure: one row per point. An axis without a name is left out. @param {Figure} figure */
function csvOf({ data, layout }) {
  const { columns } = layout.meta, { customdata = [] } = columns, several = data.length > 1;
  const axes = ['x', 'y'].filter((axis) => columns[axis]);
  const rows = [[...(several ? ['series'] : []), ...axes.map((axis) => columns[axis]), ...customdata]];
  for (const trace of data) {
    const [x, y] = trace.orientation === 'h' ? [trace.y, trace.x] : [trace.x, trace.y], values = { x, y };
    (trace.x || []).forEach((_, i) => {
      const cells = [...axes.map((axis) => values[axis][i]), ...customdata.map((__, n) => trace.customdata[i][n])];
      rows.push([...(several ? [plain(trace.name)] : []), ...cells.map((cell) =>
        (typeof cell === 'string' ? plain(cell) : cell))]);
    });
  }
  return rows.map((row) => row.map(csvCell).join(',')).join('\r\n') + '\r\n';
}

/** The menu of a chart: buttons in a box that opens beside the title. */
class Menu {
  /** @param {Chart} chart */
  constructor(chart) {
    const button = (text, act) => el('button', { text, onclick: () => { this.close(); act(); } });
    this.chart = chart;
    this.scales = el('span', { class: 'lr-chart-scales', role: 'group', 'aria-label': 'Scale of the vertical axis' });
    this.node = el('details', { class: 'lr-chart-menu' },
      el('summary', { 'aria-label': 'Options of the chart ' + chart.options.title, title: 'Scale, zoom, picture, table',
        text: '⋯' }),
      el('div', { class: 'lr-chart-options' }, this.scales, button('Reset zoom', () => chart.reset()),
        button('Save PNG', () => chart.savePicture('png')), button('Save SVG', () => chart.savePicture('svg')),
        button('Save CSV', () => chart.saveTable())));
    this.node.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.node.open) return;
      event.stopPropagation();
      this.close();
    });
    this.node.addEventListener('focusout', (event) => {
      if (!this.node.contains(/** @type {Node} */ (event.relatedTarget))) this.node.open = false;
    });
  }
  close() {
    this.node.open = false;
    this.node.querySelector('summary').focus();
  }
  show(offered, chosen) {
    this.scales.hidden = offered.length < 2;
    replaceIfChanged(this.scales, [offered, chosen], () => offered.map((kind) => el('button', { 'data-key': kind,
      'aria-pressed': String(kind === chosen), text: SCALES[kind], onclick: () => this.chart.chooseScale(kind) })));
  }
}

/**
 * @typedef {object} ChartOptions
 * @property {string} title
 * @property {string} name of saved files
 * @property {string} [says] what the axes show, beside the title
 * @property {'h3' | 'h4' | 'b'} [tag] of the title: a heading, unless it stands below one
 * @property {(point: { x: any, y: any, curveNumber: number, pointIndex: number }) => void} [onClick]
 * @property {(range: [number, number] | null) => void} [onBrush] a range of x was dragged over; null: none is
 * @property {(box: { x: [number, number], y: [number, number] } | null) => void} [onBox] a rectangle was dragged over
 * @property {(layout: Record<string, any>) => void} [onLayout] the user zoomed or reset
 * @property {(hidden: string[]) => void} [onLegend] the names of the series that the legend hides now
 * @property {(scale: string) => void} [onScale] the user chose another scale
 */

export class Chart {
  /** @param {ChartOptions} options */
  constructor(options) {
    this.options = options;
    this.plot = el('div', { class: 'lr-plot', role: 'img', 'aria-label': options.title });
    this.message = el('p', { class: 'lr-muted', hidden: true });
    this.heading = el(options.tag || 'b', { text: options.title });
    this.says = muted(options.says || '');
    this.menu = new Menu(this);
    this.node = el('figure', { class: 'lr-chart' },
      el('figcaption', {}, this.heading, ' ',
        this.says, this.menu.node), this.plot, this.message);
    /** @type {Figure} as the engine made it, with what moved since */ this.figure = null;
    /** @type {Figure & { scale: string }} as plotly.js has it, which is told of another scale a moment later */
    this.drawn = null;
    this.scale = '';
    this.plotly = null;
    this.width = 0;
    this.resting = 0;
    new ResizeObserver(() => {
      const { clientWidth } = this.plot;
      if (!clientWidth || clientWidth === this.width) return;
      this.width = clientWidth;
      this.redraw();
    }).observe(this.plot);
    charts.add(this);
  }
  /** @param {Figure} figure */
  draw(figure) {
    const { height, meta } = figure.layout;
    this.figure = figure;
    this.plot.style.height = height + 'px';
    this.describe(meta.says);
    if (!meta.scales.includes(this.scale)) [this.scale] = meta.scales;
    this.menu.show(meta.scales, this.scale);
    return this.redraw();
  }
  rename(title, says = this.options.says) {
    this.heading.textContent = this.options.title = title;
    this.says.textContent = this.options.says = says || '';
  }
  /** The text alternative, where the page knows it better than the figure. */
  describe(text) { this.plot.setAttribute('aria-label', text); }

  async redraw() {
    if (!this.figure || !this.plot.clientWidth) return;
    try { this.plotly = await loadPlotly(); } catch (error) {
      this.message.textContent = error.message;
      this.message.hidden = false;
      return;
    }
    this.message.hidden = true;
    const first = !this.drawn;
    clearTimeout(this.resting);
    this.drawn = this.prepared();
    const { data, layout } = this.drawn;
    await withoutBase(() => this.plotly.react(this.plot, data, { ...layout, width: this.plot.clientWidth }, CONFIG));
    if (first) this.listen();
  }
  /** The figure in the page's colours and in the chosen scale. @returns {Figure & { scale: string }} */
  prepared() {
    const style = getComputedStyle(this.plot), { onBrush, onBox } = this.options;
    const copy = withColours({ data: this.figure.data, layout: this.figure.layout }, style);
    const narrow = (this.plot.clientWidth < NARROW && copy.layout.meta.narrow) || {};
    for (const [part, value] of Object.entries(narrow)) {
      copy.layout[part] = Array.isArray(value) ? value : { ...copy.layout[part], ...value };
    }
    scaleAxis(copy, this.scale);
    copy.layout.shapes = (copy.layout.shapes || []).map((shape) => scaleShape(shape, this.scale));
    copy.layout.font.family = style.fontFamily;
    copy.layout.dragmode = TOUCH.matches ? false : onBrush || onBox ? 'select' : 'zoom';
    if (onBrush) copy.layout.selectdirection = 'h';
    return { ...copy, scale: this.scale };
  }
  listen() {
    const { onClick, onBrush, onBox, onLayout, onLegend } = this.options;
    const plot = /** @type {any} */ (this.plot), on = (name, act) => plot.on('plotly_' + name, act);
    const hidden = () => plot.data.filter((trace) => trace.visible === 'legendonly').map((trace) => trace.name);
    on('doubleclick', () => this.reset());
    if (onClick) on('click', ({ points }) => points.length && onClick(points[0]));
    if (onLegend) on('restyle', ([change]) => 'visible' in change && onLegend(hidden()));
    if (onLayout) on('relayout', onLayout);
    if (!onBrush && !onBox) return;
    on('selected', (event) => {
      if (!event?.range) return;
      this.plotly.update(this.plot, { selectedpoints: [null] }, { selections: [] }); // the page marks the range itself
      if (onBox) onBox(event.range); else onBrush(event.range.x);
    });
    on('deselect', () => (onBox || onBrush)(null));
  }
  setScale(scale) {
    if (scale === this.scale || !this.figure) return;
    this.scale = scale;
    this.menu.show(this.figure.layout.meta.scales, scale);
    this.redraw();
  }
  chooseScale(scale) {
    this.setScale(scale);
    this.options.onScale?.(scale);
  }
  /** The whole of both axes, and no range. */
  reset() {
    if (!this.drawn) return;
    const changes = {};
    for (const axis of ['xaxis', 'yaxis']) {
      const { range } = this.figure.layout[axis]; // plotly.js changes the one that it was given
      changes[axis + (range ? '.range' : '.autorange')] = range ? [...range] : true;
    }
    this.plotly.relayout(this.plot, changes);
    (this.options.onBox || this.options.onBrush)?.(null);
  }
  /**
   * Moves shapes by their names: { beta: { y0, y1 } }. plotly.js needs 10 to 100 ms for that, so while they move only
   * their paths change; it is told when they rest.
   */
  move(shapes) {
    if (!this.figure) return;
    const area = /** @type {any} */ (this.plot.querySelector('.nsewdrag'))?.getBBox();
    this.figure.layout.shapes.forEach((shape, i) => {
      if (!shapes[shape.name]) return;
      Object.assign(shape, shapes[shape.name]);
      const path = this.drawn && area && this.plot.querySelector('.shapelayer path[data-index="' + i + '"]');
      const { layout } = /** @type {any} */ (this.plot);
      if (path) path.setAttribute('d', pathOf(scaleShape(shape, this.drawn.scale), area, layout));
    });
    clearTimeout(this.resting);
    this.resting = window.setTimeout(() => this.settle(), REST);
  }
  settle() {
    const changes = {};
    this.figure.layout.shapes.forEach((shape, i) => {
      const now = scaleShape(shape, this.scale);
      for (const key of ['x0', 'x1', 'y0', 'y1']) changes['shapes[' + i + '].' + key] = now[key];
    });
    if (this.drawn) this.plotly.relayout(this.plot, changes);
  }

  /** The chart as an SVG picture's address; '' where it has no points. @returns {Promise<string>} */
  async svg(width = this.plot.clientWidth || 800) {
    if (!this.figure || !this.figure.data.some(({ x }) => x.length)) return '';
    const { data, layout } = this.prepared();
    return (await loadPlotly()).toImage({ data, layout }, { format: 'svg', width, height: layout.height });
  }
  /**
   * The address of the picture with its title, on a solid ground.
   * @param {'png' | 'svg'} format
   * @returns {Promise<string>}
   */
  async picture(format, width = Math.max(640, this.plot.clientWidth)) {
    const { data, layout } = this.prepared(), { title } = this.options, style = getComputedStyle(this.plot);
    const colour = (variable) => style.getPropertyValue(variable).trim();
    const heading = { text: title, x: 0, xref: 'container', xanchor: 'left', pad: { l: 16 }, yref: 'container',
      y: 0.97, yanchor: 'top', font: { size: 15, color: colour('--lr-ink') } };
    Object.assign(layout, { title: heading, paper_bgcolor: colour('--lr-surface'),
      margin: { l: 16, r: 20, t: 64, b: 16 } });
    const size = { format, width, height: layout.height + 72, scale: format === 'png' ? 2 : 1 };
    return (await loadPlotly()).toImage({ data, layout }, size);
  }
  async savePicture(format) {
    if (!this.figure) return;
    download(this.options.name + '.' + format, await (await fetch(await this.picture(format))).blob());
  }
  saveTable() { if (this.figure) download(this.options.name + '.csv', csvOf(this.figure), 'text/csv'); }
}

/**
 * A slider below a chart.
 * @param {{ label: string, name: string, min: number, max: number, step: number,
 *   onInput: (value: number) => void }} options
 */
export function createSlider({ label, name, min, max, step, onInput }) {
  const out = el('output', { class: 'lr-number' });
  const input = el('input', { type: 'range', min, max, step, 'aria-label': label,
    oninput: () => onInput(Number(input.value)) });
  const node = el('label', { class: 'lr-slider' }, el('span', { text: name }), input, out);
  return { node, input, show(value, text) {
    input.value = String(value);
    input.setAttribute('aria-valuetext', text);
    out.textContent = text;
  } };
}

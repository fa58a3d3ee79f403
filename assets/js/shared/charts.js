// @ts-check
// The charts of a dataset: a histogram to brush and a curve whose marker is a slider. SVG in the page's colours; what
// can be moved is an HTML element with role="slider", so that keyboard, touch and screen readers have it too.
import { el, svg } from './dom.js';
import { clamp, formatCount, formatPercent } from './format.js';

// Three or four round numbers from 0 up to `most`, for an axis.
export function roundTicks(most) {
  if (!(most > 0)) return [0];
  const rough = most / 3, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

// A part that slides: arrows, Page Up and Down, Home and End, and the pointer that its chart hands on.
export function createHandle(label, move) {
  const node = el('div', { class: 'lr-handle', role: 'slider', tabindex: '0', 'aria-label': label });
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  node.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in steps)) return;
    event.preventDefault();
    move(steps[event.key]);
  });
  return { node, place(x, values) {
    node.style.left = x + 'px';
    for (const [name, value] of Object.entries(values)) node.setAttribute('aria-' + name, value);
  } };
}

// Drag on a chart, with mouse, pen or finger; a finger that moves up or down still scrolls the page.
function onDrag(node, begin, drag, end) {
  let active = null;
  const x = (event) => event.clientX - node.getBoundingClientRect().left;
  node.addEventListener('pointerdown', (event) => {
    if (event.button || active !== null) return;
    active = event.pointerId;
    node.setPointerCapture(active);
    begin(x(event), event);
  });
  node.addEventListener('pointermove', (event) => { if (event.pointerId === active) drag(x(event)); });
  const over = (kept) => (event) => { if (event.pointerId === active) { active = null; end(kept); } };
  node.addEventListener('pointerup', over(true));
  node.addEventListener('pointercancel', over(false));
}

function chartBox(title, says, ...more) {
  const canvas = svg('svg', { 'aria-hidden': 'true' });
  const plot = el('div', { class: 'lr-plot' }, canvas);
  const node = el('figure', { class: 'lr-chart' }, el('figcaption', {}, el('b', { text: title }), ' ', el('span', { class: 'lr-muted', text: says })), plot, ...more);
  return { node, plot, canvas };
}

const PLOT = { left: 44, right: 10, top: 8, bottom: 22, height: 168 };

function axes(canvas, width, xTicks, yTicks, x, y) {
  const bottom = PLOT.height - PLOT.bottom;
  for (const [value, label] of yTicks) canvas.append(
    svg('line', { class: 'lr-gridline', x1: PLOT.left, x2: width - PLOT.right, y1: y(value), y2: y(value) }),
    svg('text', { class: 'lr-tick', x: PLOT.left - 6, y: y(value) + 4, 'text-anchor': 'end', text: label }));
  for (const value of xTicks) canvas.append(
    svg('line', { class: 'lr-gridline', x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }),
    svg('text', { class: 'lr-tick', x: x(value), y: PLOT.height - 6, 'text-anchor': 'middle', text: String(value) }));
}

// How many steps have which KL. Bars above beta are marked; a range of bars can be taken out of it.
export function createHistogram(onBrush) {
  const said = el('span', { class: 'lr-brush-said', role: 'status' });
  const clear = el('button', { type: 'button', hidden: true, text: 'Show all', onclick: () => brush(null) });
  const { node, plot, canvas } = chartBox('Steps by KL', 'nats; height by square root. Drag to look at a range.', el('div', { class: 'lr-brush-line' }, said, clear));
  const low = createHandle('Lowest KL shown', (by) => nudge(0, by)), high = createHandle('Highest KL shown', (by) => nudge(1, by));
  plot.append(low.node, high.node);
  let data = null, range = null, from = 0, x = () => 0, moving = null;

  const bins = () => data.counts.length;
  const edge = (i) => (i >= bins() ? '\u221e' : String(Number(data.edges[i].toPrecision(3))));
  // Where a KL lies on the axis, in bins.
  function place(kl) {
    const i = data.edges.findIndex((e) => e > kl);
    return i < 0 ? bins() : i < 1 ? 0 : i - 1 + (kl - data.edges[i - 1]) / (data.edges[i] - data.edges[i - 1]);
  }
  function brush(next, silent) {
    if (next && next[0] <= 0 && next[1] >= bins()) next = null;
    const same = JSON.stringify(next) === JSON.stringify(range);
    range = next;
    draw();
    if (!silent && !same) onBrush(range && [range[0] > 0 ? data.edges[range[0]] : null, range[1] < bins() ? data.edges[range[1]] : null]);
  }
  function nudge(which, by) {
    if (!data) return;
    const next = range ? [...range] : [0, bins()];
    next[which] = which ? clamp(next[1] + by, next[0] + 1, bins()) : clamp(next[0] + by, 0, next[1] - 1);
    brush(next);
  }
  const at = (px) => clamp(Math.floor(((px - PLOT.left) / (plot.clientWidth - PLOT.left - PLOT.right)) * bins()), 0, bins() - 1);
  onDrag(plot, (px, event) => {
    if (!data) return;
    if (event.target === low.node || event.target === high.node) {
      moving = event.target === low.node ? 0 : 1;
      from = moving ? (range ? range[0] : 0) : (range ? range[1] : bins()) - 1;
      event.target.focus({ preventScroll: true });
    } else { moving = null; from = at(px); }
  }, (px) => { if (data) { const to = at(px); brush([Math.min(from, to), Math.max(from, to) + 1], true); } },
  () => { if (data) onBrush(range && [range[0] > 0 ? data.edges[range[0]] : null, range[1] < bins() ? data.edges[range[1]] : null]); });
  plot.addEventListener('keydown', (event) => { if (event.key === 'Escape' && range) { event.stopPropagation(); brush(null); } });

  function draw() {
    const width = plot.clientWidth;
    if (!data || !width) return;
    canvas.setAttribute('viewBox', '0 0 ' + width + ' ' + PLOT.height);
    const most = Math.max(1, ...data.counts), bottom = PLOT.height - PLOT.bottom, slot = (width - PLOT.left - PLOT.right) / bins();
    const y = (n) => bottom - Math.sqrt(n / most) * (bottom - PLOT.top);
    x = (kl) => PLOT.left + place(kl) * slot;
    canvas.replaceChildren();
    if (range) canvas.append(svg('rect', { class: 'lr-brushed', x: PLOT.left + range[0] * slot, width: (range[1] - range[0]) * slot, y: PLOT.top, height: bottom - PLOT.top }));
    axes(canvas, width, [0, 0.01, 0.1, 1, 10], roundTicks(most).map((n) => [n, n >= 10000 ? Math.round(n / 1000) + 'k' : formatCount(n)]), x, y);
    data.counts.forEach((n, i) => {
      if (!n) return;
      const hot = data.edges[i] >= data.beta - 1e-9, out = range && (i < range[0] || i >= range[1]);
      canvas.append(svg('rect', { class: (hot ? 'lr-bar-hot' : 'lr-bar-cool') + (out ? ' lr-bar-out' : ''), x: PLOT.left + i * slot + slot * 0.08,
        width: slot * 0.84, y: Math.min(y(n), bottom - 1), height: Math.max(1, bottom - y(n)) }));
    });
    canvas.append(svg('line', { class: 'lr-mark-line', x1: x(data.beta), x2: x(data.beta), y1: PLOT.top, y2: bottom }),
      svg('text', { class: 'lr-mark-label', x: x(data.beta) + 5, y: PLOT.top + 10, text: '\u03b2 ' + data.beta.toFixed(2) }));
    const [a, b] = range || [0, bins()], inside = data.counts.slice(a, b).reduce((s, n) => s + n, 0);
    low.place(PLOT.left + a * slot, { valuemin: 0, valuemax: bins() - 1, valuenow: a, valuetext: 'from ' + edge(a) + ' nats' });
    high.place(PLOT.left + b * slot, { valuemin: 1, valuemax: bins(), valuenow: b, valuetext: 'up to ' + edge(b) + ' nats' });
    said.textContent = range ? formatCount(inside) + ' step' + (inside === 1 ? '' : 's') + ' with KL from ' + edge(a) + ' to ' + edge(b) + ' nats' : '';
    clear.hidden = !range;
  }
  new ResizeObserver(draw).observe(plot);
  return { node, draw(next) { data = next; if (range && range[1] > bins()) range = null; draw(); }, reset() { range = null; } };
}

// y against x as a line, with a marker that can be dragged along it. values: [[x, y]…] by ascending x.
export function createSlider({ title, says, label, xTicks, root, step, digits, percentages, onInput }) {
  const { node, plot, canvas } = chartBox(title, says);
  const handle = createHandle(label, (by) => by && set(by === -Infinity ? low() : by === Infinity ? high() : value + by * step));
  plot.append(handle.node);
  let values = [], value = 0, width = 0;
  const low = () => values[0][0], high = () => values[values.length - 1][0];
  const scale = (v) => (root ? Math.sqrt(v) : v), back = (v) => (root ? v * v : v);
  const share = (v) => (scale(v) - scale(low())) / (scale(high()) - scale(low()) || 1);
  const x = (v) => PLOT.left + clamp(share(v), 0, 1) * (width - PLOT.left - PLOT.right);
  const at = (px) => back(scale(low()) + clamp((px - PLOT.left) / (width - PLOT.left - PLOT.right), 0, 1) * (scale(high()) - scale(low())));
  function set(next) {
    if (!values.length) return;
    next = Number(clamp(next, low(), high()).toFixed(digits));
    if (next === value) return;
    value = next;
    draw();
    onInput(value);
  }
  // Linear between the two neighbours.
  function yAt(v) {
    const i = values.findIndex(([u]) => u >= v - 1e-9);
    if (i <= 0) return values[i < 0 ? values.length - 1 : 0][1];
    const [[u0, y0], [u1, y1]] = [values[i - 1], values[i]];
    return y0 + ((y1 - y0) * (v - u0)) / (u1 - u0 || 1);
  }
  onDrag(plot, (px) => { handle.node.focus({ preventScroll: true }); set(at(px)); }, (px) => set(at(px)), () => {});
  function draw() {
    width = plot.clientWidth;
    if (!values.length || !width) return;
    canvas.setAttribute('viewBox', '0 0 ' + width + ' ' + PLOT.height);
    const bottom = PLOT.height - PLOT.bottom, most = percentages ? 1 : Math.max(1e-9, ...values.map((v) => v[1]));
    const y = (v) => bottom - (v / most) * (bottom - PLOT.top);
    canvas.replaceChildren();
    axes(canvas, width, xTicks, (percentages ? [0, 0.5, 1] : roundTicks(most)).map((v) => [v, percentages ? v * 100 + ' %' : String(v)]), x, y);
    const points = values.map(([u, v]) => x(u).toFixed(1) + ',' + y(v).toFixed(1)).join(' ');
    canvas.append(svg('polygon', { class: 'lr-area', points: x(value) + ',' + bottom + ' ' + values.filter(([u]) => u >= value).map(([u, v]) => x(u).toFixed(1) + ',' + y(v).toFixed(1)).join(' ') + ' ' + x(high()) + ',' + bottom }),
      svg('polyline', { class: 'lr-line', points }), svg('line', { class: 'lr-mark-line', x1: x(value), x2: x(value), y1: PLOT.top, y2: bottom }),
      svg('circle', { class: 'lr-dot', cx: x(value), cy: y(yAt(value)), r: 5 }));
    const v = yAt(value);
    handle.place(x(value), { valuemin: low(), valuemax: high(), valuenow: value, valuetext: value.toFixed(digits) + ': ' + (percentages ? formatPercent(v) : v.toFixed(1)) });
  }
  new ResizeObserver(draw).observe(plot);
  return { node, draw(nextValues, nextValue) { values = nextValues; value = nextValue; draw(); } };
}

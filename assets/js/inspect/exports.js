// @ts-check
// Export of a trace: a link, files, and a picture drawn from the same numbers as the page.
import { copyText, download, el } from '../shared/dom.js';
import { LONGEST_LABEL, formatCount, plural, showInvisible } from '../shared/format.js';
import { isAbove, shade, teachesNothing, tunedName } from './measures.js';
import { countsOf, isRewritten, isTakenOver, judged, writtenBy } from './writer.js';

/** @type {[string, string][]} */
export const EXPORTS = [
  ['link', 'A link that opens this step again, also after a restart of the server'],
  ['json', 'The whole trace, with the distributions of every step'],
  ['csv', 'One row per step'],
  ['png', 'A picture'],
  ['html', 'One file that opens anywhere, offline'],
];
const FILE_TYPES = { json: 'application/json', csv: 'text/csv', html: 'text/html' };

// Copies the link, or saves the file that request() gets. Returns a message to show, or ''.
export async function exportFile(kind, name, request) {
  if (kind === 'link') return (await copyText(location.href)) ? 'Link copied' : 'Copy it from the address bar';
  const answer = await request();
  if (answer.error) return answer.error;
  download(name + '.' + kind, answer.content, FILE_TYPES[kind]);
  return '';
}

function mix(heat, surface, share) {
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const a = parse(heat), b = parse(surface);
  return 'rgb(' + a.map((x, i) => Math.round(x * share + b[i] * (1 - share))).join(',') + ')';
}
function themeColours(node) {
  const style = getComputedStyle(node), names = ['muted', 'ink', 'hot', 'tuned', 'target', 'surface', 'heat', 'bad'];
  return /** @type {Record<string, string>} */ ({ font: style.fontFamily,
    ...Object.fromEntries(names.map((name) => [name, style.getPropertyValue('--lr-' + name).trim()])) });
}

const WIDTH = 1200, MARGIN = 32, LINE = 30, SCALE = 2, CURVE = 190; // of the picture, in pixels
const HEAD = 23, MOST_LINES = 24; // a line above the tokens; lines of the problem
const MONOSPACE = '16px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';

// Where each piece of each token stands: [{ label, x, y, w, step }], and the last line's y.
function placeTokens(context, steps, top) {
  const placed = [];
  let x = MARGIN, y = top;
  for (const step of steps) {
    const pieces = step.text.split('\n');
    pieces.forEach((piece, i) => {
      const shown = showInvisible(piece + (i < pieces.length - 1 ? '\n' : ''));
      const label = shown.slice(0, LONGEST_LABEL), w = context.measureText(label).width;
      if (x + w > WIDTH - MARGIN && x > MARGIN) { x = MARGIN; y += LINE; }
      placed.push({ label, x, y, w, step });
      x += w;
      if (i < pieces.length - 1) { x = MARGIN; y += LINE; }
    });
  }
  return { placed, bottom: y };
}
// A text in lines that fit into the picture; one of very many lines is cut off, and says so.
function wrapped(context, text) {
  const lines = [];
  for (const part of text.split('\n')) {
    let line = '';
    for (const word of showInvisible(part).match(/\S{1,60} *| +/gu) || []) {
      if (line && context.measureText(line + word).width > WIDTH - 2 * MARGIN) { lines.push(line); line = ''; }
      line += word;
    }
    lines.push(line);
  }
  return lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES - 1), '…'] : lines;
}
/** What stands above the tokens: [text, font, colour] of each line. */
function headOf(context, { run, steps, metric, beta }, colours) {
  const plain = '14px ' + colours.font, above = steps.filter((s) => isAbove(s, beta)).length;
  context.font = plain;
  const lines = [[run.expert + '  against  ' + run.amateur, 'bold 18px ' + colours.font, colours.ink]];
  for (const text of run.question ? wrapped(context, run.question) : []) lines.push([text, plain, colours.muted]);
  if (run.graded) {
    lines.push(['Answer ' + judged(run.graded) + ', known ' + run.graded.answer, 'bold ' + plain,
      run.graded.right ? colours.target : colours.bad]);
  }
  const measure = metric.name + ' · ' + formatCount(above) + ' of ' + plural(steps.length, 'step') +
    ' above β = ' + beta.toFixed(2) + ' nats';
  return [...lines, ...[measure, ...headLines(run, steps)].map((text) => [text, plain, colours.muted])];
}
/** The colours and the marks, and what they mean: a line of tokens like those above it. */
function drawLegend(context, { run, steps, metric, beta }, y, colours) {
  const unit = metric.full === 1 ? ' nat' : ' nats', sample = { text: '', kl: 0, agree: true };
  const scale = context.createLinearGradient(MARGIN + 16, 0, MARGIN + 156, 0);
  scale.addColorStop(0, colours.surface);
  scale.addColorStop(1, mix(colours.heat, colours.surface, 0.85));
  context.font = '14px ' + colours.font; context.fillStyle = colours.muted;
  context.fillText('0', MARGIN, y);
  context.fillText(metric.full + unit + ' and more', MARGIN + 164, y);
  context.fillStyle = scale;
  context.fillRect(MARGIN + 16, y - 6, 140, 12);
  let x = MARGIN + 190 + context.measureText(metric.full + unit + ' and more').width;
  /** @type {[string, any][]} */
  const cues = [['KL above β', { kl: beta + 1 }], ['top-1 differs', { agree: false }]];
  if (steps.some(teachesNothing)) cues.push(['teaches nothing', { teaching: 0, pale: true }]);
  if (run.lens) cues.push(['training changed the top-1 token', { tuned_changed: true }]);
  for (const [says, marks] of cues) {
    context.font = MONOSPACE;
    const w = context.measureText('token').width;
    const token = { label: 'token', x, y, w, step: { ...sample, ...marks } };
    drawToken(context, token, { of: () => (marks.pale ? 1 : 0), full: 1 }, beta, colours);
    context.font = '14px ' + colours.font; context.fillStyle = colours.muted;
    context.fillText(says, x + w + 8, y);
    x += w + 32 + context.measureText(says).width;
  }
}
// On the tuned expert, and on the contrast that wrote the response.
function headLines({ lens, contrast }, steps) {
  const changed = steps.filter((s) => s.tuned_changed).length;
  return [...(lens ? ['◆ ' + tunedName(lens) + ': training changed the top-1 token at ' + changed + ' of ' +
    plural(steps.length, 'step') + ' (corner at the right)'] : []),
  ...(contrast ? [writtenBy(contrast), countsOf(steps, contrast) + (contrast.takeover
    ? ' (double and dashed line above)' : ' (dashed line above)')] : [])];
}
function drawToken(context, { label, x: left, y: middle, w, step }, metric, beta, colours) {
  const pale = teachesNothing(step) ? 0.3 : 1;
  context.fillStyle = mix(colours.heat, colours.surface, shade(metric, step) * 0.85 * pale);
  context.fillRect(left, middle - 12, w, 24);
  if (isAbove(step, beta)) { context.fillStyle = colours.hot; context.fillRect(left, middle + 11, w, 2); }
  const corner = (x, inwards, colour) => {
    context.fillStyle = colour;
    context.beginPath();
    context.moveTo(x, middle - 12);
    context.lineTo(x + inwards, middle - 12);
    context.lineTo(x, middle - 5);
    context.fill();
  };
  if (!step.agree) corner(left, 7, colours.hot);
  if (step.tuned_changed) corner(left + w, -7, colours.tuned);
  context.fillStyle = colours.target;
  if (isRewritten(step)) for (let x = left; x < left + w; x += 6) context.fillRect(x, middle - 14, 4, 2);
  if (isTakenOver(step)) for (const y of [-15, -12]) context.fillRect(left, middle + y, w, 1);
  context.fillStyle = pale < 1 ? colours.muted : colours.ink;
  context.fillText(label, left, middle);
}

/**
 * Problem, answer, heatmap, legend and curve on one canvas, in the page's colours.
 * @param {{ run: any, steps: any[], metric: any, beta: number, node: HTMLElement, curve: string }} shown
 *   curve: the address of a picture of it, or ''
 */
export async function picture(shown) {
  const { steps, metric, beta, node, curve } = shown;
  const canvas = el('canvas'), context = canvas.getContext('2d'), colours = themeColours(node);
  const head = headOf(context, shown, colours);
  context.font = MONOSPACE;
  const { placed, bottom } = placeTokens(context, steps, 62 + HEAD * head.length);
  const strip = curve && Object.assign(new Image(), { src: curve });
  if (strip) await strip.decode();
  const height = bottom + 80 + (strip ? CURVE : 0);
  canvas.width = WIDTH * SCALE; canvas.height = height * SCALE;
  context.scale(SCALE, SCALE);
  context.fillStyle = colours.surface; context.fillRect(0, 0, WIDTH, height);
  head.forEach(([text, font, colour], n) => {
    context.font = font; context.fillStyle = colour;
    context.fillText(text, MARGIN, 40 + HEAD * n, WIDTH - 2 * MARGIN);
  });
  context.font = MONOSPACE; context.textBaseline = 'middle';
  for (const token of placed) drawToken(context, token, metric, beta, colours);
  drawLegend(context, shown, bottom + 44, colours);
  if (strip) {
    const across = Math.min(WIDTH - 2 * MARGIN, (strip.width * (CURVE - 20)) / strip.height);
    context.drawImage(strip, MARGIN, bottom + 70, across, CURVE - 20);
  }
  // toBlob waits until the browser has nothing else to do, for up to seven seconds; an exported file may fetch nothing
  const bytes = atob(canvas.toDataURL('image/png').split(',')[1]);
  return new Blob([Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))], { type: 'image/png' });
}

export function createExportMenu(kinds, run) {
  const menu = el('div', { class: 'lr-menu', role: 'group', 'aria-label': 'Export' });
  const status = el('span', { class: 'lr-action-status', role: 'status' });
  async function start(kind) {
    const message = await run(kind);
    if (!message) return;
    status.textContent = message;
    setTimeout(() => { status.textContent = ''; }, 4000);
  }
  menu.append(...kinds.map(([kind, title]) => el('button', { 'data-kind': kind, title, disabled: true,
    text: kind === 'link' ? 'Copy link' : kind.toUpperCase(), onclick: () => start(kind) })), status);
  return { node: menu, enable(on) { menu.querySelectorAll('button').forEach((b) => { b.disabled = !on; }); } };
}

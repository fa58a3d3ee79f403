// What every part of the viewer uses: DOM building, number and token formats, the table of metrics.
// Model text only ever enters the page through textContent.

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'text') node.textContent = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

const LONGEST_LABEL = 120; // a token of ten thousand characters must not push the page apart
// A joiner between two emoji makes one of them and stays; any other, at a piece's edge too, is as invisible as the rest.
const CONTROL = new RegExp(['[\\u0000-\\u001f\\u007f-\\u009f\\u200b\\u200c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]',
  '(?<!\\p{Extended_Pictographic}[\\ufe0f\\u{1f3fb}-\\u{1f3ff}]*)\\u200d', '\\u200d(?!\\p{Extended_Pictographic})'].join('|'), 'gu');

// A control or invisible character, spelled so that it can be seen and does nothing.
function visible(character) {
  const code = character.codePointAt(0);
  if (character === '\n') return '\u21b5';
  if (character === '\t') return '\u21e5';
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return '\u2039U+' + code.toString(16).toUpperCase().padStart(4, '0') + '\u203a';
}

// The token as a label: spaces at its edges become open boxes, so that " 7" and "7" can be told apart.
function tokenLabel(text, longest = 24) {
  if (text === '') return '\u2205';
  let label = text.replace(CONTROL, visible).replace(/^ +| +$/g, (s) => '\u2423'.repeat(s.length));
  const characters = Array.from(label);
  if (characters.length > longest) label = characters.slice(0, longest - 1).join('') + '\u2026';
  return label;
}

// How a screen reader should say it.
function tokenName(text) {
  if (text === '') return 'empty token';
  if (text.trim() === '') return 'whitespace ' + tokenLabel(text);
  return tokenLabel(text.trim(), 60);
}

const finite = (x, otherwise = Infinity) => (x === null || x === undefined ? otherwise : x);
const nats = (x) => (Number.isFinite(x) ? x.toFixed(3) : x === Infinity ? '\u221e' : '\u2013');
// With its sign, and never "-0.000".
function signed(x, digits = 3) {
  if (!Number.isFinite(x)) return x > 0 ? '+\u221e' : x < 0 ? '\u2212\u221e' : '\u2013';
  const text = Math.abs(x).toFixed(digits);
  return (Number(text) === 0 ? '' : x < 0 ? '\u2212' : '+') + text;
}
function percent(p) {
  if (p >= 0.9995) return '100 %';
  if (p >= 0.0995) return (p * 100).toFixed(0) + ' %';
  if (p >= 0.00995) return (p * 100).toFixed(1) + ' %';
  if (p >= 0.0001) return (p * 100).toFixed(2) + ' %';
  return p > 0 ? '<0.01 %' : '0 %';
}

// The measures that can colour the tokens. MEASURES and PAPER come from the engine's measures.py and paper.py.
const METRICS = MEASURES.filter((m) => m.full).map((m) => ({ ...m, of: m.key === 'ratio' ? logRatio : (step) => finite(step[m.key]) }));
const SAYS = Object.fromEntries(MEASURES.map((m) => [m.key, m.says]));
function logRatio(step) {
  return Math.max(0, finite(step.expert_logprob, 0) - finite(step.amateur_logprob, step.expert_logprob === null ? 0 : -Infinity));
}

// Square root, so that the small values, which are most of them, can be told apart.
function shade(metric, step) {
  const value = metric.of(step);
  return Math.sqrt(Math.min(1, Math.max(0, value / metric.full)));
}

// The same definitions as lightreasoner/scoring/divergence.py, on the candidates that came with the step.
function contrast(candidates, alpha) {
  const logE = candidates.expert_logprobs.map((x) => finite(x, -Infinity));
  const logA = candidates.amateur_logprobs.map((x) => finite(x, -Infinity));
  const bound = Math.max(...logE) + Math.log(alpha) - PAPER.tie;
  const plausible = logE.map((x) => x >= bound && x > -Infinity);
  const ratio = logE.map((x, i) => (plausible[i] ? x - logA[i] : -Infinity));
  const denied = ratio.some((r) => r === Infinity);
  const score = denied ? logE.map((x, i) => (ratio[i] === Infinity ? x : -Infinity)) : ratio;
  const top = Math.max(...score), weight = score.map((x) => Math.exp(x - top));
  const total = weight.reduce((a, b) => a + b, 0);
  return { logE, logA, plausible, weights: weight.map((w) => w / total) };
}

const CHANGE = 0.005; // of probability; below it nobody would call a token moved
// What training did to one step, in a sentence. Rows: {text, e, t}, the probabilities under the expert and the tuned one.
function movedSentence(rows, changed) {
  const quoted = (row) => '\u201c' + tokenLabel(row.text) + '\u201d';
  const most = (of) => rows.reduce((best, row) => (of(row) > of(best) ? row : best), rows[0]);
  const story = (row) => quoted(row) + ' ' + times(row.t / row.e) + ' as likely here (' + percent(row.e) + ' \u2192 ' + percent(row.t) + ')';
  if (changed) {
    const before = most((row) => row.e), now = most((row) => row.t);
    return 'Training changed the favourite from ' + quoted(before) + ' to ' + quoted(now) + ': it made ' + story(now) + '.';
  }
  const gained = most((row) => row.t - row.e), lost = most((row) => row.e - row.t);
  const row = gained.t - gained.e >= CHANGE ? gained : lost;
  if (Math.abs(row.t - row.e) < CHANGE) return 'Training moved no token\u2019s probability by more than half a percentage point here.';
  return 'Training made ' + story(row) + '.';
}
function times(ratio) {
  if (!(ratio < 1000)) return 'over 1,000 times';
  return (ratio >= 9.95 ? ratio.toFixed(0) : ratio >= 0.895 && ratio < 1.095 ? ratio.toFixed(2) : ratio >= 0.095 ? ratio.toFixed(1) : ratio.toPrecision(1)) + ' times';
}

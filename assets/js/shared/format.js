// @ts-check
// How numbers, times, sizes and tokens are written on the page.
import { el } from './dom.js';

export const LONGEST_LABEL = 120; // a token of ten thousand characters must not push the page apart
const EMOJI = '\\p{Extended_Pictographic}(?:\\ufe0f|[\\u{1f3fb}-\\u{1f3ff}])*';
const CONTROL = '[\\u0000-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]';
// A joiner between two emoji makes one of them and stays; any other is as invisible as the rest.
const INVISIBLE = new RegExp('(' + EMOJI + '(?:\\u200d' + EMOJI + ')+)|' + CONTROL, 'gu');

// The text in pieces: every second one is a single invisible character.
export function splitInvisible(text) {
  const pieces = [''];
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match[1]) continue;
    pieces[pieces.length - 1] += text.slice(end, match.index);
    pieces.push(match[0], '');
    end = match.index + match[0].length;
  }
  pieces[pieces.length - 1] += text.slice(end);
  return pieces;
}
// The text with its invisible characters in a form that can be seen.
export const showInvisible = (text) => text.replace(INVISIBLE, (found, emoji) => emoji || visibleCharacter(found));

// A control or invisible character in a form that can be seen and does nothing.
export function visibleCharacter(character) {
  const code = character.codePointAt(0);
  if (character === '\n') return '↵';
  if (character === '\t') return '⇥';
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return '‹U+' + code.toString(16).toUpperCase().padStart(4, '0') + '›';
}

// The token as a label: spaces at its edges become open boxes, so that " 7" and "7" can be told apart.
export function tokenLabel(text, longest = 24) {
  if (text === '') return '∅';
  const label = showInvisible(text).replace(/^ +| +$/g, (s) => '␣'.repeat(s.length));
  const characters = Array.from(label);
  return characters.length > longest ? characters.slice(0, longest - 1).join('') + '…' : label;
}

// The token as a screen reader should read it.
export function tokenName(text) {
  if (text === '') return 'empty token';
  if (text.trim() === '') return 'whitespace ' + tokenLabel(text);
  return tokenLabel(text.trim(), 60);
}

/** What is known of something, in one line. @param {any[]} parts texts, or what says that there is none */
export const joined = (parts) => parts.filter(Boolean).join(' · ');
/** A model's reference without its folders. */
export const lastPart = (ref) => ref.split(/[/\\]/).filter(Boolean).pop() || '?';
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
export const formatCount = (x) => Math.round(x).toLocaleString('en');
export const plural = (n, one, many) => formatCount(n) + ' ' + (n === 1 ? one : many || one + 's');
export const formatNats = (x) => (Number.isFinite(x) ? x.toFixed(3) : x === Infinity ? '∞' : '–');
// With its sign, and never "-0.000".
export function formatSigned(x, digits = 3) {
  if (!Number.isFinite(x)) return x > 0 ? '+∞' : x < 0 ? '−∞' : '–';
  const text = Math.abs(x).toFixed(digits);
  return (Number(text) === 0 ? '' : x < 0 ? '−' : '+') + text;
}
export function formatPercent(p) {
  if (p >= 0.9995) return '100 %';
  if (p >= 0.0001) return (p * 100).toFixed(p >= 0.0995 ? 0 : p >= 0.00995 ? 1 : 2) + ' %';
  return p > 0 ? '<0.01 %' : '0 %';
}
// How much of the work is done: 100 % only when all of it is.
export const formatProgress = (fraction) => Math.floor(clamp(fraction, 0, 1) * 100) + ' %';
// As the engine's formatting.py writes it.
export function formatBytes(n) {
  if (n < 999500) return Math.max(1, Math.round(n / 1e3)) + ' kB';
  const [size, unit] = n < 1e9 ? [n / 1e6, ' MB'] : [n / 1e9, ' GB'];
  return (size < 10 ? size.toFixed(1) : formatCount(n < 1e9 ? Math.min(999, size) : size)) + unit;
}

const minus = (text) => text.replace(/^-/, '−');
// "0.0312", "1,204", "5e-5": three digits, as short as possible.
export function formatNumber(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value), rounded = Number(value.toPrecision(3));
  if (size && (size < 1e-3 || size >= 1e6)) {
    return minus(rounded.toExponential().replace('e+', 'e'));
  }
  return minus(size >= 100 ? formatCount(value) : String(rounded));
}

/** @type {[string, number][]} */
const UNITS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
// 3725 s → "1 h 2 min": the two largest units, seconds only below ten minutes.
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return '';
  const s = Math.round(seconds), first = UNITS.findIndex(([, size]) => s >= size);
  if (first < 0) return 'under 1 s';
  const [name, size] = UNITS[first], big = Math.floor(s / size), next = UNITS[first + 1];
  const small = next && !(name === 'min' && big >= 10) ? Math.floor((s % size) / next[1]) : 0;
  return big + ' ' + name + (small ? ' ' + small + ' ' + next[0] : '');
}

// The time that is left is an estimate, so it is rounded up to minutes: 101 s → "2 min left".
export const formatRemaining = (seconds) =>
  formatDuration(seconds < 60 ? seconds : Math.ceil(seconds / 60) * 60) + ' left';

// Seconds since 1970 → "14:32:05", with the day when it is not today's.
export function formatTime(seconds) {
  const at = new Date(seconds * 1000), now = new Date(), time = at.toTimeString().slice(0, 8);
  if (at.toDateString() === now.toDateString()) return time;
  const year = at.getFullYear() === now.getFullYear() ? undefined : 'numeric';
  return at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year }) + ', ' + time.slice(0, 5);
}
export function timeNode(seconds) {
  return el('time', { datetime: new Date(seconds * 1000).toISOString(), text: formatTime(seconds) });
}

// Per second, per minute or per hour: the first that gives at least one.
export function formatRate(rate) {
  if (!(rate > 0)) return '';
  const [per, times] = rate >= 1 ? ['second', 1] : rate * 60 >= 1 ? ['minute', 60] : ['hour', 3600];
  const n = rate * times;
  return (n >= 10 ? formatCount(n) : n.toFixed(1)) + ' per ' + per;
}

// A number of a job's progress or result, by its name: "mean_kl" → "Mean KL", and the value with its unit.
const SYMBOLS = { kl: 'KL', js: 'JS', alpha: 'α', beta: 'β' };
export function fieldName(name) {
  const text = name.replace(/_/g, ' ').replace(/\b(kl|js|alpha|beta)\b/gi, (word) => SYMBOLS[word.toLowerCase()]);
  return name === 'bytes' ? 'Size' : name === 'seconds' ? 'Time' : text.replace(/^[a-z]/, (c) => c.toUpperCase());
}
export function formatValue(value, name = '') {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value !== 'number') return String(value);
  if (name === 'bytes') return formatBytes(value);
  if (name === 'seconds' && value >= 10) return formatDuration(value);
  const whole = Number.isInteger(value) || Math.abs(value) >= 1000;
  const unit = name === 'seconds' ? ' s' : /(^|_)(kl|entropy|loss|beta)$/i.test(name) && !name.startsWith('above') ?
    ' nats' : '';
  return (whole ? formatCount(value) : String(Number(value.toPrecision(3)))) + unit;
}

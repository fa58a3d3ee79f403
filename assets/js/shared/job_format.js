// How jobs are put into words and signs: states, durations, times, rates. Used by the panel and by the header.

// Each state has a word, a sign and a colour; the sign alone tells them apart, too.
const STATES = {
  queued: { word: 'Queued', sign: ['M8 4.5V8l2.5 1.5'] },
  running: { word: 'Running', sign: ['M6.3 5.2v5.6L11 8z'] },
  stopping: { word: 'Stopping', sign: ['M5.8 5.8h4.4v4.4H5.8z'] },
  succeeded: { word: 'Succeeded', sign: ['M4.8 8.3l2.2 2.2 4.3-4.7'] },
  failed: { word: 'Failed', sign: ['M5.5 5.5l5 5M10.5 5.5l-5 5'] },
  cancelled: { word: 'Cancelled', sign: ['M4.6 8h6.8'] },
  interrupted: { word: 'Interrupted', sign: ['M8 4.4v4.4M8 11.2v.4'] },
};

function stateSign(state) {
  const make = (tag, attributes) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const svg = make('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true', class: 'lr-sign' });
  svg.append(make('circle', { cx: 8, cy: 8, r: 7 }), ...(STATES[state] || STATES.queued).sign.map((d) => make('path', { d })));
  return svg;
}

const whole = (x) => Math.round(x).toLocaleString('en');

// 3725 s → "1 h 2 min": the two largest units, seconds only below ten minutes.
function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return '';
  const s = Math.round(seconds), units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => s >= size);
  if (first < 0) return 'under 1 s';
  const [name, size] = units[first], big = Math.floor(s / size), next = units[first + 1];
  const small = next && !(name === 'min' && big >= 10) ? Math.floor((s % size) / next[1]) : 0;
  return big + ' ' + name + (small ? ' ' + small + ' ' + next[0] : '');
}

// What is left is a guess, so it is said as one: 101 s → "2 min left".
const remaining = (seconds) => duration(seconds < 60 ? seconds : Math.ceil(seconds / 60) * 60) + ' left';

// Seconds since 1970 → "14:32:05", with the day when it is not today's.
function clock(seconds) {
  const at = new Date(seconds * 1000), time = at.toTimeString().slice(0, 8);
  if (at.toDateString() === new Date().toDateString()) return time;
  return at.toLocaleDateString('en-GB', { day: 'numeric', month: 'short', year: at.getFullYear() === new Date().getFullYear() ? undefined : 'numeric' }) + ', ' + time.slice(0, 5);
}
function timeNode(seconds) { return el('time', { datetime: new Date(seconds * 1000).toISOString(), text: clock(seconds) }); }

// So many a second, a minute or an hour: what gives a number that can be read.
function pace(rate) {
  if (!(rate > 0)) return '';
  const [per, times] = rate >= 1 ? ['second', 1] : rate * 60 >= 1 ? ['minute', 60] : ['hour', 3600];
  const n = rate * times;
  return (n >= 10 ? whole(n) : n.toFixed(1)) + ' a ' + per;
}
const share = (fraction) => Math.floor(Math.min(1, Math.max(0, fraction)) * 100) + ' %'; // 100 % only when all is done

// A number out of a verb's progress or result, with its unit: "mean_kl" → "Mean KL"; whole numbers with commas, others
// in three digits.
const WRITTEN = { kl: 'KL', js: 'JS', alpha: '\u03b1', beta: '\u03b2' };
function label(name) {
  const text = name.replace(/_/g, ' ').replace(/\b(kl|js|alpha|beta)\b/gi, (word) => WRITTEN[word.toLowerCase()]);
  return name === 'bytes' ? 'Size' : name === 'seconds' ? 'Time' : text.replace(/^[a-z]/, (c) => c.toUpperCase());
}
function figure(value, name = '') {
  if (value === null || value === undefined) return '\u2013';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value !== 'number') return String(value);
  if (name === 'bytes') return value < 1e6 ? Math.ceil(value / 1e3) + ' kB' : value < 1e9 ? (value / 1e6).toFixed(1) + ' MB' : (value / 1e9).toFixed(2) + ' GB';
  if (name === 'seconds' && value >= 10) return duration(value);
  const text = Number.isInteger(value) || Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
  return text + (name === 'seconds' ? ' s' : /(^|_)(kl|entropy|loss|beta)$/i.test(name) && !name.startsWith('above') ? ' nats' : '');
}

// @ts-check
// The browser's own notifications when a job ends: off until the user switches them on, in this browser only.
import { address } from '../shared/address.js';
import { el, setText } from '../shared/dom.js';
import { stateName } from './states.js';

const KEY = 'lr-notify';
const REFUSED = 'This browser blocks notifications of this page; allow them beside its address, then try again.';
const INSECURE = 'Browsers notify only pages that come by https, or from this machine.';

/** Whether the user wants to be notified, and the browser does it. */
export function wanted() {
  try {
    return 'Notification' in window && Notification.permission === 'granted' && localStorage.getItem(KEY) === 'yes';
  } catch { return false; } // a browser that stores nothing
}

/** Returns tell(ended), which notifies of the jobs that have ended since its last call. */
export function createNews() {
  /** @type {Set<string> | null} */ let known = null;
  return (ended) => {
    const keys = ended.map((job) => job.id + '/' + job.ended), before = known;
    known = new Set([...(known || []), ...keys]);
    if (!before || !wanted() || document.hasFocus()) return;
    ended.filter((_, i) => !before.has(keys[i])).forEach((job) => {
      const title = stateName(job.state) + ': ' + job.title;
      const note = new Notification(title, { body: job.message || '', tag: 'lr-' + job.id });
      note.onclick = () => { window.focus(); address.open('jobs', { job: job.id }); note.close(); };
    });
  };
}

/** The switch on the Jobs tab. */
export function createSwitch() {
  const says = el('span', { class: 'lr-muted', role: 'status' });
  const button = el('button', { text: 'Notify me when a job ends', 'aria-pressed': String(wanted()),
    onclick: async () => {
      const on = !wanted();
      let told = !('Notification' in window) || !isSecureContext ? INSECURE : '';
      if (on && !told && (await Notification.requestPermission()) !== 'granted') told = REFUSED;
      try { if (!told) localStorage.setItem(KEY, on ? 'yes' : 'no'); } catch { told = REFUSED; }
      button.setAttribute('aria-pressed', String(wanted()));
      setText(says, told || (on ? 'While this page is open, also in the background.' : ''));
    } });
  return el('div', { class: 'lr-jobs-notify' }, button, says);
}

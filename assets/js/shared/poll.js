// @ts-check
// What tabs share: calls to the server, polling while the page is seen, and following the address.
import { address } from './address.js';

const offline = () => ({ error: 'The server does not answer; check that it still runs, then reload.' });

// call(name, ...arguments): a promise of the server's answer. Gradio answers nothing when the connection is lost.
export const createCalls = (server) => async (name, ...args) => (await server[name](args).catch(offline)) || offline();

// Calls look() once per second while busy() holds, else every five seconds; not while the element is out of sight.
export function pollWhileVisible(element, busy, look) {
  let tick = 0;
  setInterval(() => {
    if (document.hidden || !element.getClientRects().length || tick++ % (busy() ? 1 : 5)) return;
    look();
  }, 1000);
}

/**
 * The server's answer on what a tab shows; null where another look is on its way whose answer counts. `all`: something
 * was changed, so the answers to earlier looks count no more.
 * @param {{ busy: boolean, looked: number, call: ReturnType<typeof createCalls>,
 *   error: { show: (text: string) => boolean } }} tab
 * @param {boolean} all
 * @param {string} name
 * @param {any[]} args
 */
export async function lookAt(tab, all, name, ...args) {
  if (tab.busy && !all) return null;
  tab.busy = true;
  const mine = (tab.looked += all ? 1 : 0);
  const answer = await tab.call(name, ...args);
  tab.busy = false;
  if (mine !== tab.looked) return null;
  tab.error.show(answer.error);
  return answer;
}

/**
 * Lets a tab follow the page's address. Returns what is to be called when the component's value names a run to open.
 * @param {string} name
 * @param {{ follow: (params: URLSearchParams) => void }} tab
 * @param {import('./start.js').Gradio} gradio
 * @param {(id: string) => void} open
 */
export function followAddress(name, tab, { element, props }, open) {
  address.watch(name, (params) => tab.follow(params));
  tab.follow(address.get(name));
  return () => {
    if (!props.value) return;
    open(JSON.parse(props.value).open);
    scrollToResult(element);
  };
}

// On a narrow screen the form is above the result: this brings the result into sight.
export function scrollToResult(element) {
  if (innerWidth <= 900) element.scrollIntoView({ behavior: 'smooth', block: 'start' });
}

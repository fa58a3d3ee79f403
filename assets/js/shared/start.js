// @ts-check
// Starts a component's script. On a public server, parts that only the owner may use are not started for visitors; the
// server checks permissions.
import { PUBLIC } from './engine_data.js';

const visitor = PUBLIC && !/(^|; )lr_role=owner(;|$)/.test(document.cookie);
if (PUBLIC && !visitor) document.documentElement.classList.add('lr-owner');

/**
 * @typedef {object} Gradio what Gradio gives a component's script
 * @property {HTMLElement} element
 * @property {Record<string, any>} props `value` is the component's value; set from outside
 * @property {(event: string, data: object) => void} trigger an event for the server
 * @property {Record<string, (args: any[]) => Promise<any>>} server the component's server functions
 */

/**
 * Imports the module NAME under assets/js and calls its mount(gradio), which returns what is to be called when the
 * value changes, or nothing.
 * @param {string} name
 * @param {boolean} ownersOnly
 * @param {Gradio} gradio
 * @returns {Promise<(() => void) | undefined>}
 */
export async function start(name, ownersOnly, gradio) {
  if (ownersOnly && visitor) return undefined;
  const { mount } = await import(`../${name}.js`);
  return mount(gradio);
}

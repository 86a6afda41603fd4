// Walks through the dashboard in Chromium: node browser.mjs CHROMIUM URL TOKEN PATHS [PICTURES]. PATHS is a JSON object of pages by name.
// Prints what it found as JSON. With PICTURES it also writes the pictures of docs/dashboard.md into that folder.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const require = createRequire(new URL('../e2e/node/package.json', import.meta.url))
const { chromium } = require('playwright-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

const [executablePath, base, token, paths, pictures] = process.argv.slice(2)
const pages = JSON.parse(paths)
const found = { took: {}, wide: [], violations: [], console: [], foreign: [], size: {}, unreached: [], steps: [] }
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const context = await browser.newContext({ viewport: { width: 1600, height: 900 }, bypassCSP: false })
const page = await context.newPage()
let where = ''
page.on('console', (m) => { if (m.type() === 'error' || m.type() === 'warning') found.console.push(`${where}: ${m.text()}`) })
page.on('pageerror', (e) => found.console.push(`${where}: ${e}`))
page.on('request', (r) => { if (!r.url().startsWith(base)) found.foreign.push(r.url()) })

async function open(path) {
  where = path
  const response = await page.goto(base + path, { waitUntil: 'load' })
  return response
}

// check runs axe. It is evaluated by the debugger, which no policy of the page keeps out.
async function check(how) {
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  for (const v of violations) found.violations.push(`${where} ${how}: ${v.id}: ${v.nodes.slice(0, 2).map((n) => n.html).join(' ')} ${v.nodes[0].failureSummary}`)
}

async function look(how, width, colorScheme) {
  await page.setViewportSize({ width, height: 900 })
  await page.emulateMedia({ colorScheme })
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  if (over > 0) found.wide.push(`${where} at ${width}: ${over}`)
  if (how) await check(`${width} ${colorScheme}`)
}

// walk goes through the page with the Tab key, and reports what cannot be reached or is not seen to be.
async function walk() {
  const all = await page.evaluate(() => {
    const list = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')].filter((e) => e.checkVisibility())
    list.forEach((e, i) => { e.dataset.walk = String(i) })
    return list.length
  })
  const seen = new Set()
  let before = -1
  for (let i = 0; i < all; i++) {
    await page.keyboard.press('Tab')
    const at = await page.evaluate(() => {
      const e = document.activeElement
      const style = getComputedStyle(e)
      return { walk: Number(e.dataset?.walk ?? -1), html: e.outerHTML.slice(0, 90), seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }
    })
    if (!at.seen) found.unreached.push(`${where}: the focus is not seen at ${at.html}`)
    if (at.walk < before) found.unreached.push(`${where}: ${at.html} comes out of order`)
    before = at.walk
    seen.add(at.walk)
  }
  if (seen.size !== all) found.unreached.push(`${where}: ${all - seen.size} of ${all} cannot be reached`)
}

async function signIn() {
  await open('/dashboard')
  await check('sign in')
  await look('', 360, 'light')
  await page.keyboard.type(token) // the field has the focus
  await page.keyboard.press('Enter')
  await page.waitForURL(base + '/dashboard')
  found.steps.push('signed in')
}

async function everyPage() {
  for (const [name, path] of Object.entries(pages)) {
    const response = await open(path)
    found.size[name] = (await response.body()).length
    if (response.status() !== 200) found.console.push(`${path}: status ${response.status()}`)
    for (const scheme of ['light', 'dark']) {
      for (const width of [360, 768, 1600]) await look((width === 360) === (scheme === 'light') && width !== 768, width, scheme)
    }
    await page.emulateMedia({ colorScheme: 'light' })
    if (name === 'overview' || name === 'jobs' || name === 'letter') {
      await page.evaluate(() => document.getElementById('pause').click()) // so that nothing is replaced on the way
      await walk()
    }
  }
  found.steps.push('every page')
}

async function figuresMove() {
  await open('/dashboard')
  const total = page.locator('[data-text="total"]')
  const first = await total.textContent()
  const post = () => fetch(base + '/v1/jobs', { method: 'POST', headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json' }, body: '{"command":"ping"}' })
  await post()
  await page.waitForFunction((was) => document.querySelector('[data-text="total"]').textContent !== was, first)
  await page.waitForFunction(() => document.querySelector('[data-path="requests-0"]').getAttribute('d').includes('L'))
  found.steps.push('figures move')
  await page.getByRole('button', { name: 'Pause' }).press('Enter')
  await page.getByRole('button', { name: 'Resume', pressed: true }).press('Space')
  await page.getByRole('button', { name: 'Pause', pressed: false }).waitFor()
  found.steps.push('paused and resumed')
  await page.keyboard.press('Escape')
}

async function skip() {
  await open('/dashboard')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  if (await page.evaluate(() => document.activeElement.id) === 'main') found.steps.push('skipped to the content')
}

async function hiddenUntilAskedFor() {
  for (const [name, link, text] of [['session', 'Show the latest turns', 'of alice'], ['letter', 'Show the request', 'worse'], ['job', 'Show the result', '[mock]']]) {
    await open(pages[name])
    const main = page.locator('main')
    if ((await main.textContent()).includes(text)) found.console.push(`${name} shows what was not asked for`)
    await page.getByRole('link', { name: link }).press('Enter')
    await page.getByText(text).first().waitFor()
    await check('shown')
    found.steps.push('shown: ' + name)
  }
}

async function act() {
  await open(pages.letter)
  await page.getByRole('button', { name: 'Replay' }).press('Enter')
  await page.getByRole('status').getByText('replayed').waitFor()
  found.steps.push('replayed')
  for (;;) { // until the replay has failed, too
    await open(pages.letter)
    if (await page.getByRole('rowheader', { name: 'Outcome' }).count() && !(await page.locator('tr', { hasText: 'Outcome' }).textContent()).match(/queued|running|retrying/)) break
  }
  await check('replayed')
  await open('/dashboard/breakers')
  await page.getByRole('button', { name: /^Reset / }).first().press('Enter')
  await page.getByRole('status').getByText('closed').waitFor()
  found.steps.push('reset')
  await open(pages.running)
  await page.getByRole('button', { name: 'Cancel the job' }).press('Enter')
  await page.getByRole('status').getByText('cancelled').waitFor()
  found.steps.push('cancelled')
}

async function signOut() {
  await open('/dashboard')
  await page.getByRole('button', { name: 'Sign out' }).press('Enter')
  await page.waitForURL(base + '/dashboard/login')
  await open('/dashboard')
  if (page.url() === base + '/dashboard/login') found.steps.push('signed out')
}

async function draw() {
  for (const [name, scheme, width, height] of [['overview', 'light', 1280, 780], ['overview', 'dark', 1280, 780], ['sessions', 'light', 1280, 720], ['letter', 'light', 1280, 840], ['hosts', 'dark', 1280, 720], ['failed', 'light', 1280, 640], ['jobs', 'light', 360, 720], ['worker', 'light', 1280, 720], ['logs', 'dark', 1280, 720]]) {
    await open(pages[name])
    await page.setViewportSize({ width, height })
    await page.emulateMedia({ colorScheme: scheme })
    await page.waitForTimeout(1500) // for the figures
    await page.screenshot({ path: `${pictures}/${name}${scheme === 'dark' ? '-dark' : ''}.png` })
  }
}

try {
  for (const step of [signIn, skip, everyPage, figuresMove, hiddenUntilAskedFor, act, ...(pictures ? [draw] : []), signOut]) {
    const from = Date.now()
    await step()
    found.took[step.name] = Date.now() - from
  }
} catch (e) {
  found.console.push(`${where}: ${e.stack}`)
}
await browser.close()
console.log(JSON.stringify(found))

-- MatteBridge for the free edition of Resolve, whose scripts are Lua: the same steps as
-- mattebridge_fusion.py, by the `mattebridge` command. `mattebridge install resolve` fills in the
-- command.

local COMMAND = [[@COMMAND@]]
local QUIET = 524288
local AUTOMATIC = -32768
local LOADERS = {
  MatteBridge = { "R", "G", "B", "A" },
  MatteBridgeForeground = { "foreground.R", "foreground.G", "foreground.B", "matte.A" },
}
local CHANNEL_INPUTS = { "RedName", "GreenName", "BlueName", "AlphaName" }

local M = {}

local function quoted(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

-- The command line that mattes scratch files into a folder.
function M.command_line(command, scratch, out, given)
  local words = {
    command, "matte", quoted(scratch .. "/plate/frame.####.exr"),
    "--layers", "--format", "exr-none", "--existing", "overwrite", "--progress", "json",
    "--frames=" .. given.first .. "-" .. given.last,
    "--colorspace", given.colorspace, "--model", quoted(given.model), "-o", quoted(out),
  }
  if given.clean_plate ~= "" then
    table.insert(words, "--clean-plate")
    table.insert(words, quoted(scratch .. "/clean_plate/frame.####.exr"))
  end
  if given.alpha_hint ~= "" then
    table.insert(words, "--alpha-hint")
    table.insert(words, quoted(scratch .. "/alpha_hint/frame.####.exr"))
    table.insert(words, "--hint-channel A")
  end
  return table.concat(words, " ") .. " 2>&1"
end

-- What one JSON line of the command says, for people; nil for what is not worth a line.
function M.describe(line)
  local event = line:match('"event": "(%a+)"')
  if event == "frame" then
    local frame, status = line:match('"frame": (%-?%d+)'), line:match('"status": "(%a+)"')
    return "frame " .. tostring(frame) .. " " .. tostring(status)
  elseif event == "finish" then
    return line:match('"text": "([^"]*)"')
  elseif event == nil and line ~= "" then
    return line
  end
end

-- The last status that the command gave; nil when it ended without one.
function M.status_of(line)
  if line:match('"event": "finish"') then return tonumber(line:match('"status": (%d+)')) end
end

local function set_saver(made, tool, path)
  made:ConnectInput("Input", tool)
  made:SetInput("Clip", path)
  made:SetInput("OutputFormat", "OpenEXRFormat")
  made:SetInput("OpenEXRFormat.Depth", 2)
  made:SetInput("OpenEXRFormat.Compression", 0)
  for _, name in ipairs({ "Red", "Green", "Blue", "Alpha" }) do
    made:SetInput("OpenEXRFormat." .. name .. "Enable", 1)
  end
end

-- Render the inputs; true when the host says that it did. The composition is as before.
function M.render(comp, tools, scratch, given)
  comp:Lock()
  comp:StartUndo("MatteBridge render")
  local attributes, time = comp:GetAttrs(), comp.CurrentTime
  local before, ours = {}, {}
  for _, other in pairs(comp:GetToolList(false, "Saver")) do
    before[#before + 1] = { other, other:GetAttrs().TOOLB_PassThrough }
    other:SetAttrs({ TOOLB_PassThrough = true })
  end
  local good, said = pcall(function()
    for role, tool in pairs(tools) do
      os.execute("mkdir -p " .. quoted(scratch .. "/" .. role))
      ours[#ours + 1] = comp:AddTool("Saver", AUTOMATIC, AUTOMATIC)
      set_saver(ours[#ours], tool, scratch .. "/" .. role .. "/frame.0000.exr")
    end
    return comp:Render({ Start = given.first, End = given.last, Wait = true, RenderFlags = QUIET })
  end)
  for _, made in ipairs(ours) do made:Delete() end
  for _, pair in ipairs(before) do pair[1]:SetAttrs({ TOOLB_PassThrough = pair[2] }) end
  comp:SetAttrs({
    COMPN_RenderStart = attributes.COMPN_RenderStart, COMPN_RenderEnd = attributes.COMPN_RenderEnd,
  })
  comp.CurrentTime = time
  comp:EndUndo(false)
  comp:Unlock()
  if not good then error(said, 0) end
  return said
end

function M.show(comp, first_file, given)
  comp:Lock()
  comp:StartUndo("MatteBridge")
  for name, channels in pairs(LOADERS) do
    local loader = comp:AddTool("Loader", AUTOMATIC, AUTOMATIC)
    loader:SetAttrs({ TOOLS_Name = name })
    loader:SetInput("Clip", first_file)
    loader:SetInput("GlobalIn", given.first)
    loader:SetInput("GlobalOut", given.last)
    loader:SetInput("MissingFrames", 0)
    loader:SetInput("PostMultiplyByAlpha", 0)
    for index, input in ipairs(CHANNEL_INPUTS) do
      loader:SetInput("Clip1.OpenEXRFormat." .. input, channels[index])
    end
  end
  comp:EndUndo(true)
  comp:Unlock()
end

-- Everything; a sentence, or an error that is one.
function M.matte(comp, given, folder)
  local tools = {}
  for _, role in ipairs({ "plate", "clean_plate", "alpha_hint" }) do
    if given[role] ~= "" then
      tools[role] = comp:FindTool(given[role])
      if not tools[role] then error("there is no tool " .. given[role], 0) end
    end
  end
  if not tools.plate then error("name the tool that gives the plate", 0) end
  local stamp = tostring(os.time()) .. "-" .. tostring(math.random(1000000))
  local scratch, out = folder .. "/scratch-" .. stamp, folder .. "/mattes-" .. stamp
  os.execute("mkdir -p " .. quoted(out))
  local good, said = pcall(function()
    if not M.render(comp, tools, scratch, given) then error("Fusion did not render", 0) end
    local status, words
    local pipe = io.popen(M.command_line(given.command or COMMAND, scratch, out, given))
    for line in pipe:lines() do
      status = M.status_of(line) or status
      local text = M.describe(line)
      if text then
        words = text
        print("mattebridge: " .. text)
      end
    end
    pipe:close()
    if status ~= 0 then error(words or "the mattebridge command did not run", 0) end
    local listing = io.popen("ls " .. quoted(out) .. "/*/*.exr")
    local first_file = listing:read("*l")
    listing:close()
    M.show(comp, first_file, given)
    return words
  end)
  os.execute("rm -rf " .. quoted(scratch))
  if not good then error(said, 0) end
  return said
end

function M.main(comp, tool)
  tool = tool or comp.ActiveTool
  if not tool then
    print("mattebridge: select the tool that gives the plate, then run the script again")
    return
  end
  local attributes = comp:GetAttrs()
  local given = comp:AskUser("MatteBridge", {
    { "plate", Name = "Plate", "Text", Default = tool:GetAttrs().TOOLS_Name },
    { "clean_plate", Name = "CleanPlate", "Text", Default = "" },
    { "alpha_hint", Name = "Hint", "Text", Default = "" },
    { "model", Name = "Model", "Text", Default = "default" },
    { "colorspace", Name = "Colour (linear or srgb)", "Text", Default = "linear" },
  })
  if not given then return end
  given.first, given.last = attributes.COMPN_RenderStart, attributes.COMPN_RenderEnd
  local home = os.getenv("HOME") or "/tmp"
  local good, said = pcall(M.matte, comp, given, home .. "/mattebridge")
  print("mattebridge: " .. tostring(said))
end

if comp then M.main(comp, tool) end
return M

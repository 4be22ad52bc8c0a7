-- MatteBridge for the free edition of Resolve, whose scripts are Lua: the same steps as
-- mattebridge_fusion.py, with the `mattebridge` command, which `mattebridge install resolve` fills
-- in.

local COMMAND = [[@COMMAND@]]
local QUIET = 524288
local AUTOMATIC = -32768
local LOADERS = {
  MatteBridge = { "R", "G", "B", "A" },
  MatteBridgeForeground = { "foreground.R", "foreground.G", "foreground.B", "matte.A" },
}
local CHANNEL_INPUTS = { "RedName", "GreenName", "BlueName", "AlphaName" }

-- The role of each tool, in the order of the dialog.
local ROLES = { "plate", "clean_plate", "alpha_hint", "garbage_matte", "core_matte" }

local M = { windows = package.config:sub(1, 1) == "\\" }

local function quoted(text)
  text = tostring(text)
  -- File names on Windows contain no quotes.
  if M.windows then return '"' .. text:gsub('"', "") .. '"' end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- A path joined from its parts, with the system's separator.
function M.path(...)
  local path = table.concat({ ... }, "/")
  return M.windows and path:gsub("/", "\\") or path
end

-- A line for the system's shell; cmd removes the first and the last quote.
function M.shell(line)
  return M.windows and '"' .. line .. '"' or line
end

function M.make_folder(path)
  return M.shell((M.windows and "mkdir " or "mkdir -p ") .. quoted(path))
end

function M.remove_folder(path)
  return M.shell((M.windows and "rd /s /q " or "rm -rf ") .. quoted(path))
end

-- The command line that mattes scratch files into a folder.
function M.command_line(command, scratch, out, given)
  local words = {
    command, "matte", quoted(M.path(scratch, "plate", "frame.####.exr")),
    "--layers", "--format", "exr-none", "--existing", "overwrite", "--progress", "json",
    "--frames=" .. given.first .. "-" .. given.last,
    "--colorspace", quoted(given.colorspace), "--output-colorspace", quoted(given.colorspace),
    "--model", quoted(given.model), "-o", quoted(out),
  }
  for index = 2, #ROLES do
    local role = ROLES[index]
    if given[role] and given[role] ~= "" then
      table.insert(words, "--" .. role:gsub("_", "-"))
      table.insert(words, quoted(M.path(scratch, role, "frame.####.exr")))
    end
  end
  return M.shell(table.concat(words, " ") .. " 2>&1")
end

-- The text to print for one JSON line of the command; nil for lines that are not printed.
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

-- The file of a frame, relative to the output folder; nil for other lines. The folder itself is
-- known, and JSON may escape its characters.
function M.file_of(line)
  if line:match('"status": "done"') then
    local folder, file = line:match('[/\\]+([%w_]+)[/\\]+(frame%.[^/\\"]+)"}')
    return folder and M.path(folder, file)
  end
end

-- The exit status in the command's last line; nil for other lines.
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

-- A function that restores the present selection.
function M.selection(comp)
  local active, tools = comp.ActiveTool, comp:GetToolList(true)
  return function()
    if comp.CurrentFrame then
      local flow = comp.CurrentFrame.FlowView
      flow:Select()
      for _, tool in pairs(tools) do flow:Select(tool, true) end
    end
    comp:SetActiveTool(active)
  end
end

-- Render the inputs; the host's result, true on success. Leaves the composition unchanged.
function M.render(comp, tools, scratch, given)
  comp:Lock()
  comp:StartUndo("MatteBridge render")
  local attributes, time = comp:GetAttrs(), comp.CurrentTime
  local selected = M.selection(comp)
  local before, ours = {}, {}
  for _, other in pairs(comp:GetToolList(false, "Saver")) do
    before[#before + 1] = { other, other:GetAttrs().TOOLB_PassThrough }
    other:SetAttrs({ TOOLB_PassThrough = true })
  end
  local good, result = pcall(function()
    for role, tool in pairs(tools) do
      os.execute(M.make_folder(M.path(scratch, role)))
      ours[#ours + 1] = comp:AddTool("Saver", AUTOMATIC, AUTOMATIC)
      set_saver(ours[#ours], tool, M.path(scratch, role, "frame.0000.exr"))
    end
    return comp:Render({ Start = given.first, End = given.last, Wait = true, RenderFlags = QUIET })
  end)
  for _, made in ipairs(ours) do made:Delete() end
  for _, pair in ipairs(before) do pair[1]:SetAttrs({ TOOLB_PassThrough = pair[2] }) end
  comp:SetAttrs({
    COMPN_RenderStart = attributes.COMPN_RenderStart, COMPN_RenderEnd = attributes.COMPN_RenderEnd,
  })
  comp.CurrentTime = time
  selected()
  comp:EndUndo(false)
  comp:Unlock()
  if not good then error(result, 0) end
  return result
end

function M.show(comp, first_file, given)
  local selected = M.selection(comp)
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
  selected()
  comp:EndUndo(true)
  comp:Unlock()
end

-- Matte and add the Loaders; returns a sentence, or raises one.
function M.matte(comp, given, folder)
  local tools = {}
  for _, role in ipairs(ROLES) do
    if given[role] and given[role] ~= "" then
      tools[role] = comp:FindTool(given[role])
      if not tools[role] then error("there is no tool " .. given[role], 0) end
    end
  end
  if not tools.plate then error("name the tool that gives the plate", 0) end
  local stamp = tostring(os.time()) .. "-" .. tostring(math.random(1000000))
  local scratch, out = M.path(folder, "scratch-" .. stamp), M.path(folder, "mattes-" .. stamp)
  os.execute(M.make_folder(out))
  local good, result = pcall(function()
    if not M.render(comp, tools, scratch, given) then error("Fusion did not render", 0) end
    local status, words, first_file
    local pipe = io.popen(M.command_line(given.command or COMMAND, scratch, out, given))
    for line in pipe:lines() do
      status = M.status_of(line) or status
      first_file = first_file or M.file_of(line)
      local text = M.describe(line)
      if text then
        words = text
        print("mattebridge: " .. text)
      end
    end
    pipe:close()
    if status ~= 0 then error(words or "the mattebridge command did not run", 0) end
    if not first_file then error("the mattebridge command reported no output file", 0) end
    M.show(comp, M.path(out, first_file), given)
    return words
  end)
  os.execute(M.remove_folder(scratch))
  if not good then error(result, 0) end
  return result
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
    { "garbage_matte", Name = "GarbageMatte", "Text", Default = "" },
    { "core_matte", Name = "CoreMatte", "Text", Default = "" },
    { "model", Name = "Model", "Text", Default = "default" },
    { "colorspace", Name = "Colour (linear, srgb or a space by name)", "Text", Default = "linear" },
  })
  if not given then return end
  given.first, given.last = attributes.COMPN_RenderStart, attributes.COMPN_RenderEnd
  local home = os.getenv("HOME") or os.getenv("USERPROFILE") or "/tmp"
  local good, result = pcall(M.matte, comp, given, M.path(home, "mattebridge"))
  print("mattebridge: " .. tostring(result))
end

if comp then M.main(comp, tool) end
return M
